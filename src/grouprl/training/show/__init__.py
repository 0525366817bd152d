"""What a run looks like: TensorBoard, curves and the closing summary. Nothing here is read again by a program."""
