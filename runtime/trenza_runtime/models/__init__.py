"""The models of one service: what there is, what is in memory, what has to make room."""
