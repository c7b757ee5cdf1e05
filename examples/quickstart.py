"""A network trained in one's own loop, and where its largest parameters lie at five steps of the training."""
import torch
from torch import nn

import seigh

torch.manual_seed(0)
centres = torch.randn(10, 64)
y = torch.arange(2000) % 10
x = centres[y] + 1.5 * torch.randn(2000, 64)

model = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 10))
loss = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
recorder = seigh.Recorder(model, loss, {"train": (x[:500], y[:500])}, every=100, k=20, out="runs/quickstart")

for step in range(401):
    recorder(step)  # checkpoint, eigenpairs of the Hessian, overlap with the largest parameters
    batch = torch.randint(2000, (128,))
    optimizer.zero_grad()
    loss(model(x[batch]), y[batch]).backward()
    optimizer.step()

H = seigh.Hessian(model, loss, (x, y))
pairs = seigh.eigh(H, k=20)
print(pairs)
print(seigh.overlap(pairs, seigh.masks.magnitude(model)))
print("trace", repr(seigh.trace(H)))
print("report:", recorder.finish())
