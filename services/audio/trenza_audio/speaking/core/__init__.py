"""What speaking decides without any synthesiser: pieces of a text, voices, languages, speed."""
