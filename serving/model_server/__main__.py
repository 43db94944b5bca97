"""`python -m serving.model_server`: the model server by itself."""

from __future__ import annotations

import sys

from serving.model_server.main import main

sys.exit(main())
