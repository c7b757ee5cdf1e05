// Exact curvature products for fully connected networks, many vectors at a time.
//
// Method: the R-operator of Pearlmutter (1994), "Fast exact multiplication by the Hessian": differentiate the
// forward and the backward pass in the direction v. With a_l = W_l h_{l-1} + b_l, h_l = phi(a_l), delta_l =
// dL/da_l, g_l = dL/dh_l and v = (V_1, v_1, V_2, ...), per sample
//
//     R a_l         = W_l R h_{l-1} + V_l h_{l-1} + v_l                 R h_l = phi'(a_l) R a_l
//     R delta_last  = l''(a_last) R a_last
//     R g_{l-1}     = W_l^T R delta_l + V_l^T delta_l
//     R delta_l     = phi'(a_l) R g_l + phi''(a_l) g_l R a_l
//     (H v)_{W_l}   = sum_n R delta_l h_{l-1}^T + delta_l R h_{l-1}^T   (H v)_{b_l} = sum_n R delta_l
//
// Dropping V_l^T delta_l, the phi'' term and delta_l R h^T leaves the generalised Gauss-Newton product
// (Schraudolph 2002, "Fast curvature matrix-vector products"; Martens 2010, "Deep learning via Hessian-free
// optimization"); the Fisher matrices put r r^T with r = dl/da_last in the place of l''.
//
// The base point (h, phi', phi'' g, delta) is computed once per operator, in float64. The c vectors of a
// chunk are stacked as [width, c, n] for n samples, so that each of the products above is one matrix product
// for the whole chunk: W_l acts on [in, c n], V_l is packed as [out, c, in] and acts on [in, n]. Threads work
// on chunks of their own. On a device, where the parameters are, a chunk is a block: one launch for each pass
// over all its stacks.
//
// Cost per vector: 6F flops (GGN 4F), F being one forward pass over all samples, less the terms the first
// layer does not need (4F and 2F of its share). Memory: base point 4 N (sum of widths) numbers; per thread 2
// c n (sum of widths) numbers of activations and 4 c D of packed vectors; c and n are chosen to stay within a
// cache budget, or to fill a card.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "seigh/core/device_memory.h"
#include "seigh/curvature/curvature.h"
#include "seigh/curvature/mlp_steps.h"
#include "seigh/data/dataset.h"
#include "seigh/nn/mlp.h"

namespace seigh {

/// A curvature matrix of an Mlp at theta = parameters. A product is bitwise reproducible for the same block
/// and number of threads, and depends on the latter by rounding alone. Owns all it needs.
class MlpCurvatureOperator final : public CurvatureOperator {
 public:
  /// Whether this operator knows the model (an Mlp) and the loss (one by name).
  static bool supports(const Model& model, const Loss& loss);
  /// One with the loss of the options, on the device of the parameters; null where supports() says no, and
  /// on a device that has less than twice the room for what lives as long as it.
  static std::unique_ptr<CurvatureOperator> where_possible(const Model& model, const at::Tensor& parameters,
                                                           const Dataset& data,
                                                           const CurvatureOptions& options,
                                                           const std::string& name, const Context& context);

  /// `parameters` is flat, [D]; `model` need not outlive the call. Throws Error on a model that is not
  /// supported, when parameters or inputs hold NaN or infinity, on targets outside 0..outputs-1 and on an
  /// empty data set. options.batch_size is n, `vectors_per_chunk` is c; 0: chosen from the widths.
  MlpCurvatureOperator(const Model& model, const at::Tensor& parameters, const Dataset& data,
                       const CurvatureOptions& options = {}, std::string name = "MLP curvature",
                       const Context& context = Context(), int64_t vectors_per_chunk = 0);
  ~MlpCurvatureOperator() override;

  std::string way() const override;
  // Computed with the base point, in float64.
  double loss() override { return loss_; }
  at::Tensor gradient() override { return gradient_.to(dtype()); }

  std::vector<std::string> notes() const override;
  /// Tried with a chunk at the first mini-batch's samples, whatever memory that takes.
  double seconds_of_vector() override;

  c10::Device device() const override { return device_; }
  int64_t preferred_block() const override { return preferred_block_; }

 protected:
  at::Tensor apply_impl(const at::Tensor& block) override;

 private:
  struct Tile;       // the base point on some of the samples
  struct Workspace;  // one thread's buffers
  // Of a network of so many parameters, those of the matrix or not.
  void choose_sizes(int64_t parameters);
  void choose_sizes_there(int64_t parameters);
  Tile make_tile(const std::vector<at::Tensor>& parameters, const Dataset& data, int64_t begin, int64_t end,
                 const std::vector<at::Tensor>& gradient);
  void resize(Workspace& work, int64_t c) const;
  at::Tensor multiply_block(const at::Tensor& block);
  void apply_chunk(const at::Tensor& vectors, const at::Tensor& products, Workspace& work,
                   size_t tiles) const;
  void apply_tile(const Tile& tile, bool first, Workspace& work) const;
  size_t layers() const { return widths_.size() - 1; }
  bool hessian() const { return options_.kind == CurvatureKind::hessian; }
  bool curved() const { return hessian() && activation_ != Activation::relu; }  // phi'' is not zero

  c10::Device device_;
  std::optional<DeviceMemory> device_memory_;
  int64_t vectors_per_chunk_;
  bool made_smaller_ = false;  // by a device that ran out of memory
  double loss_ = 0;
  at::Tensor gradient_;  // float64
  std::vector<int64_t> widths_;
  std::vector<MlpLayer> layers_;
  Activation activation_;
  int64_t samples_;                  // N
  std::vector<at::Tensor> weights_;  // W_l [out, in], of dtype()
  std::vector<Tile> tiles_;
  std::vector<std::unique_ptr<Workspace>> workspaces_;  // one per worker, kept between calls
  int64_t preferred_block_ = 256;
};

}  // namespace seigh
