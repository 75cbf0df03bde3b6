"""Ten steps of AdamW from a model's weights, as every golden file of training has them."""

import torch

OPTIMIZER = {"learning_rate": 1e-3, "beta1": 0.9, "beta2": 0.95, "epsilon": 1e-8, "weight_decay": 0.1}


def ten_losses(parameters, loss_of, numbers=OPTIMIZER):
    """The losses [10] before each step; loss_of(step) is a scalar. Tensors of two and more dimensions alone decay."""
    parameters = list(parameters)
    groups = [{"params": [p for p in parameters if (p.dim() > 1) == decayed],
               "weight_decay": numbers["weight_decay"] * decayed} for decayed in (True, False)]
    optimizer = torch.optim.AdamW(groups, lr=numbers["learning_rate"], eps=numbers["epsilon"],
                                  betas=(numbers["beta1"], numbers["beta2"]))
    losses = []
    for step in range(10):
        optimizer.zero_grad()
        loss = loss_of(step)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return torch.tensor(losses, dtype=torch.float64)
