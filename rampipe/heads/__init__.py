"""From rows to rankings: which heads fetch evidence, how sure that is, and how it agrees between domains and models."""
