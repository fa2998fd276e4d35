"""The recipe of starter-draw: pictures of one or two coloured shapes, from words in English and Spanish."""
