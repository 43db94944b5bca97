"""What operations watch: pods.yaml (what is scraped), rules.yaml (what wakes them), and the dashboard, which `make docs` writes.

Read in this order: 1. rules.yaml, 2. panels.py (what is asked), 3. dashboard.py (how Grafana wants it said).
"""
