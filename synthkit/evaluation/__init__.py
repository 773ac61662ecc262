"""How good synthetic rows are: compared with real rows, on real tasks, beside a floor and a ceiling."""
