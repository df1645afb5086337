"""Networks, losses and differentiable augmentation. No files, no params, no printing."""
