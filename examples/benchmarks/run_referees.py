# Referees judge attribution methods: quality where the answer is known, and cost.
#
#     python examples/benchmarks/run_referees.py --quick                 # a look, in minutes
#     python examples/benchmarks/run_referees.py --mnist data            # all; goes on from a stop
#     python examples/benchmarks/run_referees.py --referees pasted --subjects EfficientNet-Lite0
#     python examples/benchmarks/run_referees.py choose                  # the other half's tables
#     python examples/benchmarks/run_referees.py page --out docs/results
from __future__ import annotations

from referees.run import main

if __name__ == "__main__":
    main()
