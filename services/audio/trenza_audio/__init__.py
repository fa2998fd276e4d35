"""The audio service: it writes down what is said, translates it into English, and speaks."""
