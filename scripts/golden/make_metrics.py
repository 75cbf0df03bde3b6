"""Metrics of GLUE as scikit-learn computes them (PyPI's `evaluate` calls it too).

    python3 make_metrics.py > tests/data/tasks/metrics.json      needs scikit-learn

Right and chosen labels of two, and acc, f1 and mcc of them; what divides by 0 among them.
"""

import json
import random
import warnings

import sklearn
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

warnings.simplefilter("ignore")
random.seed(0)
sets = [([0, 0, 1], [0, 0, 0]), ([1, 1, 1], [1, 1, 1]), ([0, 0], [0, 0]), ([1, 0], [0, 1]), ([0, 0, 0], [1, 1, 0])]
for size, share in ((7, 0.5), (50, 0.7), (400, 0.1), (1000, 0.68)):
    right = [int(random.random() < share) for _ in range(size)]
    sets.append((right, [label if random.random() < 0.8 else 1 - label for label in right]))
rows = [{"right": "".join(map(str, right)), "chosen": "".join(map(str, chosen)),
         "acc": float(accuracy_score(right, chosen)), "f1": float(f1_score(right, chosen)),
         "mcc": float(matthews_corrcoef(right, chosen))} for right, chosen in sets]
print(json.dumps({"scikit-learn": sklearn.__version__, "sets": rows}, indent=1))
