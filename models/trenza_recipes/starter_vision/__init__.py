"""The recipe of starter-vision: a small LLaVA that looks at coloured figures and answers questions about them."""
