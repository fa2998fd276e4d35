"""The facts of the small world: numbers, colours, shapes, days, common things and capitals, in English and Spanish."""

from __future__ import annotations

from dataclasses import dataclass

LARGEST_NUMBER = 20

NUMBER_WORDS: dict[str, tuple[str, ...]] = {
    "en": (
        "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
        "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
    ),
    "es": (
        "cero", "uno", "dos", "tres", "cuatro", "cinco", "seis", "siete", "ocho", "nueve", "diez", "once", "doce",
        "trece", "catorce", "quince", "dieciséis", "diecisiete", "dieciocho", "diecinueve", "veinte",
    ),
}  # fmt: skip

DAYS: dict[str, tuple[str, ...]] = {
    "en": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    "es": ("lunes", "martes", "miércoles", "jueves", "viernes", "sábado", "domingo"),
}


@dataclass(frozen=True)
class Colour:
    """A colour: its English name and its four Spanish forms."""

    english: str
    masculine: str
    feminine: str
    masculine_plural: str
    feminine_plural: str

    def spanish(self, feminine: bool, plural: bool = False) -> str:
        if plural:
            return self.feminine_plural if feminine else self.masculine_plural
        return self.feminine if feminine else self.masculine

    def name(self, language: str) -> str:
        return self.english if language == "en" else self.masculine


COLOURS = {
    colour.english: colour
    for colour in (
        Colour("red", "rojo", "roja", "rojos", "rojas"),
        Colour("green", "verde", "verde", "verdes", "verdes"),
        Colour("blue", "azul", "azul", "azules", "azules"),
        Colour("yellow", "amarillo", "amarilla", "amarillos", "amarillas"),
        Colour("orange", "naranja", "naranja", "naranjas", "naranjas"),
        Colour("purple", "morado", "morada", "morados", "moradas"),
        Colour("black", "negro", "negra", "negros", "negras"),
        Colour("white", "blanco", "blanca", "blancos", "blancas"),
        Colour("brown", "marrón", "marrón", "marrones", "marrones"),
        Colour("grey", "gris", "gris", "grises", "grises"),
        Colour("pink", "rosa", "rosa", "rosas", "rosas"),
    )
}
DRAWN_COLOURS = ("red", "green", "blue", "yellow", "orange", "purple", "black", "white")


@dataclass(frozen=True)
class Thing:
    """A common thing with its article and its colour."""

    english: str
    spanish: str
    colour: Colour

    def name(self, language: str) -> str:
        return self.english if language == "en" else self.spanish

    def described(self, language: str) -> str:
        """The colour as it agrees with the thing."""
        feminine = self.spanish.split()[0] in ("una", "la")
        return self.colour.english if language == "en" else self.colour.spanish(feminine)


THINGS = tuple(
    Thing(english, spanish, COLOURS[colour])
    for english, spanish, colour in (
        ("a banana", "un plátano", "yellow"),
        ("a lemon", "un limón", "yellow"),
        ("the sun", "el sol", "yellow"),
        ("a canary", "un canario", "yellow"),
        ("a tomato", "un tomate", "red"),
        ("a strawberry", "una fresa", "red"),
        ("a cherry", "una cereza", "red"),
        ("a fire truck", "un camión de bomberos", "red"),
        ("blood", "la sangre", "red"),
        ("a ladybird", "una mariquita", "red"),
        ("grass", "la hierba", "green"),
        ("a leaf", "una hoja", "green"),
        ("a frog", "una rana", "green"),
        ("a cucumber", "un pepino", "green"),
        ("a lettuce", "una lechuga", "green"),
        ("spinach", "la espinaca", "green"),
        ("the sky", "el cielo", "blue"),
        ("the sea", "el mar", "blue"),
        ("a whale", "una ballena", "blue"),
        ("an orange", "una naranja", "orange"),
        ("a carrot", "una zanahoria", "orange"),
        ("a pumpkin", "una calabaza", "orange"),
        ("an aubergine", "una berenjena", "purple"),
        ("a plum", "una ciruela", "purple"),
        ("lavender", "la lavanda", "purple"),
        ("coal", "el carbón", "black"),
        ("a crow", "un cuervo", "black"),
        ("a panther", "una pantera", "black"),
        ("snow", "la nieve", "white"),
        ("milk", "la leche", "white"),
        ("salt", "la sal", "white"),
        ("a swan", "un cisne", "white"),
        ("rice", "el arroz", "white"),
        ("a bear", "un oso", "brown"),
        ("chocolate", "el chocolate", "brown"),
        ("wood", "la madera", "brown"),
        ("an elephant", "un elefante", "grey"),
        ("a mouse", "un ratón", "grey"),
        ("a pig", "un cerdo", "pink"),
        ("a flamingo", "un flamenco", "pink"),
    )
)


@dataclass(frozen=True)
class Country:
    """A country and its capital in both languages."""

    english: str
    spanish: str
    capital_english: str
    capital_spanish: str

    def name(self, language: str) -> str:
        return self.english if language == "en" else self.spanish

    def capital(self, language: str) -> str:
        return self.capital_english if language == "en" else self.capital_spanish


COUNTRIES = tuple(
    Country(*row)
    for row in (
        ("Spain", "España", "Madrid", "Madrid"),
        ("France", "Francia", "Paris", "París"),
        ("Italy", "Italia", "Rome", "Roma"),
        ("Germany", "Alemania", "Berlin", "Berlín"),
        ("Portugal", "Portugal", "Lisbon", "Lisboa"),
        ("England", "Inglaterra", "London", "Londres"),
        ("Ireland", "Irlanda", "Dublin", "Dublín"),
        ("Mexico", "México", "Mexico City", "Ciudad de México"),
        ("Argentina", "Argentina", "Buenos Aires", "Buenos Aires"),
        ("Chile", "Chile", "Santiago", "Santiago"),
        ("Peru", "Perú", "Lima", "Lima"),
        ("Colombia", "Colombia", "Bogotá", "Bogotá"),
        ("Cuba", "Cuba", "Havana", "La Habana"),
        ("Uruguay", "Uruguay", "Montevideo", "Montevideo"),
        ("Ecuador", "Ecuador", "Quito", "Quito"),
        ("Venezuela", "Venezuela", "Caracas", "Caracas"),
        ("Canada", "Canadá", "Ottawa", "Ottawa"),
        ("Japan", "Japón", "Tokyo", "Tokio"),
        ("China", "China", "Beijing", "Pekín"),
        ("Russia", "Rusia", "Moscow", "Moscú"),
        ("Greece", "Grecia", "Athens", "Atenas"),
        ("Egypt", "Egipto", "Cairo", "El Cairo"),
        ("Norway", "Noruega", "Oslo", "Oslo"),
        ("Sweden", "Suecia", "Stockholm", "Estocolmo"),
        ("Austria", "Austria", "Vienna", "Viena"),
        ("Poland", "Polonia", "Warsaw", "Varsovia"),
        ("Belgium", "Bélgica", "Brussels", "Bruselas"),
        ("Denmark", "Dinamarca", "Copenhagen", "Copenhague"),
    )
)


@dataclass(frozen=True)
class Drawing:
    """A shape: names, gender and what one can count on it."""

    english: str
    english_plural: str
    spanish: str
    spanish_plural: str
    feminine: bool
    count: int
    counted_english: str
    counted_spanish: str


SHAPES = (
    Drawing("circle", "circles", "círculo", "círculos", False, 0, "sides", "lados"),
    Drawing("square", "squares", "cuadrado", "cuadrados", False, 4, "sides", "lados"),
    Drawing("triangle", "triangles", "triángulo", "triángulos", False, 3, "sides", "lados"),
    Drawing("star", "stars", "estrella", "estrellas", True, 5, "points", "puntas"),
)

PLACES: dict[str, tuple[str, ...]] = {
    "en": ("to the left of", "to the right of", "above", "below"),
    "es": ("a la izquierda de", "a la derecha de", "encima de", "debajo de"),
}

PAIRED_WORDS: tuple[tuple[str, str], ...] = (
    ("hello", "hola"),
    ("goodbye", "adiós"),
    ("thank you", "gracias"),
    ("please", "por favor"),
    ("yes", "sí"),
    ("no", "no"),
    ("today", "hoy"),
    ("tomorrow", "mañana"),
    ("yesterday", "ayer"),
    ("left", "izquierda"),
    ("right", "derecha"),
    ("above", "encima"),
    ("below", "debajo"),
)
