# What is installed: headers for those who link seigh. Each includes only headers of this list, the standard library's
# and libtorch's, and compiles on its own; tests/house and tests/install check it.
set(SEIGH_PUBLIC_HEADERS
    seigh/core/context.h
    seigh/core/device_memory.h
    seigh/core/dtype.h
    seigh/core/error.h
    seigh/core/filesystem.h
    seigh/core/memory.h
    seigh/core/progress.h
    seigh/core/ranks.h
    seigh/core/version.h
    # operators and their eigenpairs
    seigh/linop/linear_operator.h
    seigh/linop/matrix_operator.h
    seigh/tall/divided.h
    seigh/tall/tall_matrix.h
    seigh/eigen/certificates.h
    seigh/eigen/concentration.h
    seigh/eigen/dense.h
    seigh/eigen/eigh.h
    seigh/eigen/options.h
    seigh/eigen/probes.h
    seigh/eigen/result.h
    seigh/eigen/selection.h
    # traces, diagonals, densities
    seigh/spectrum/density.h
    seigh/spectrum/diagonal.h
    seigh/spectrum/trace.h
    # overlap
    seigh/overlap/anatomy.h
    seigh/overlap/bands.h
    seigh/overlap/best_overlap.h
    seigh/overlap/chance.h
    seigh/overlap/curves.h
    seigh/overlap/dynamics.h
    seigh/overlap/eigenspace.h
    seigh/overlap/joint_null.h
    seigh/overlap/masks.h
    seigh/overlap/metrics.h
    seigh/overlap/nulls.h
    seigh/overlap/scores.h
    seigh/overlap/statistics.h
    seigh/overlap/swaps.h
    seigh/overlap/synthetic.h
    seigh/overlap/units.h
    # networks, data, training
    seigh/data/dataset.h
    seigh/data/tensor_data.h
    seigh/nn/convnets.h
    seigh/nn/layers.h
    seigh/nn/loss.h
    seigh/nn/mlp.h
    seigh/nn/model.h
    seigh/nn/resnet.h
    seigh/nn/script_module.h
    seigh/nn/subset.h
    seigh/nn/transformer.h
    seigh/nn/zoo.h
    seigh/train/checkpoint.h
    seigh/train/optimizer.h
    seigh/train/schedule.h
    seigh/train/train.h
    # their curvature
    seigh/curvature/autograd_curvature.h
    seigh/curvature/check.h
    seigh/curvature/curvature.h
    seigh/curvature/graph_source.h
    seigh/curvature/make.h
    seigh/curvature/model_source.h
    # recipes, runs, and files of results
    seigh/recipe/options.h
    seigh/recipe/recipe.h
    seigh/recipe/sweep.h
    seigh/recipe/synthetic.h
    seigh/results/dynamics_file.h
    seigh/results/eigen_file.h
    seigh/results/finished.h
    seigh/results/folder_lock.h
    seigh/results/overlap_file.h
    seigh/results/inventory.h
    seigh/results/pruning_file.h
    seigh/results/run_folder.h
    seigh/run/foreign.h
    seigh/run/plan.h
    seigh/run/stages.h)
# Of the component mpi.
set(SEIGH_MPI_HEADERS seigh/mpi/mpi.h)
