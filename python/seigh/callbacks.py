"""A `seigh.Recorder` in other people's training loops."""


def lightning(recorder):
    """A callback for pytorch_lightning (or lightning.pytorch): Trainer(callbacks=[seigh.callbacks.lightning(recorder)]). Steps are the
    trainer's global_step."""
    try:
        from pytorch_lightning import Callback
    except ImportError:
        try:
            from lightning.pytorch import Callback
        except ImportError:
            raise ImportError("neither pytorch_lightning nor lightning is installed: pip install pytorch-lightning") from None

    class RecorderCallback(Callback):
        def on_train_batch_start(self, trainer, module, batch, index):
            recorder.once(trainer.global_step)

        def on_train_end(self, trainer, module):
            recorder.finish(trainer.global_step)

    return RecorderCallback()


def trainer(recorder):
    """A callback for transformers.Trainer: Trainer(..., callbacks=[seigh.callbacks.trainer(recorder)]). Steps are its global_step."""
    try:
        from transformers import TrainerCallback
    except ImportError:
        raise ImportError("transformers is not installed: pip install transformers") from None

    class RecorderCallback(TrainerCallback):
        def on_step_begin(self, args, state, control, **more):
            recorder.once(state.global_step)

        def on_train_end(self, args, state, control, **more):
            recorder.finish(state.global_step)

    return RecorderCallback()
