"""What operations see: the rules, the dashboard and the runbooks, against what the parts really export."""
