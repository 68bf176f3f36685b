# python -m captum_infomask
from __future__ import annotations

import sys

from captum_infomask.cli import main

sys.exit(main())
