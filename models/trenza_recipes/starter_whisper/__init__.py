"""The recipe of starter-whisper: a small Whisper that hears a small world in English and Spanish."""
