"""Honest comparisons of methods: a plan beforehand, equal budgets, fresh finals, a verdict that can be no."""
