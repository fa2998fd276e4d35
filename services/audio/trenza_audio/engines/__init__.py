"""The engines that run audio models, and with them the only modules that import heavy libraries."""
