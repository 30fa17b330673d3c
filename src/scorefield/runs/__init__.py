"""The RUN folder: made, resumed, read; its checkpoints; how a command is asked to stop."""
