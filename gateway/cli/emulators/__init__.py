"""Clouds for machines that have none: each speaks one cloud's dialect before a store that is at hand. The tests and
`gateway demo --origin` run them in processes of their own; a gateway never does."""
