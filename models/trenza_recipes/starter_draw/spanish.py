"""Scenes and requests put into Spanish."""

from __future__ import annotations

import random
from itertools import product

from trenza_recipes.starter_draw.world import Colour, Figure, Scene, Shape

_NOUNS: dict[Shape, str] = {"circle": "círculo", "square": "cuadrado", "triangle": "triángulo", "star": "estrella"}
_COLOURS: dict[Colour, tuple[str, ...]] = {
    "red": ("rojo",), "green": ("verde",), "blue": ("azul",), "yellow": ("amarillo",),
    "orange": ("naranja", "naranja", "anaranjado"), "purple": ("morado", "morado", "púrpura", "violeta"),
    "black": ("negro",), "white": ("blanco",),
}  # fmt: skip
_ADJECTIVES = ("grande", "pequeño", "bonito", "simple", "sencillo", "lindo", "brillante", "hermoso")

_POLITE = (
    "", "por favor", "ahora", "hola,", "oye,", "venga,", "anda,", "por favor,",
)  # fmt: skip
_COMMANDS = (
    "dibuja", "pinta", "haz", "crea", "genera", "muestra", "muéstrame", "dibújame", "píntame", "hazme", "dame", "enséñame",
    "puedes dibujar", "puedes hacer", "puedes pintar", "podrías dibujar", "podrías hacerme", "puedes crear", "me dibujas",
    "necesito que dibujes", "quiero que dibujes", "quiero que pintes", "te pido que dibujes", "vamos a dibujar", "dibuje",
    "tienes que dibujar", "intenta dibujar", "me puedes dibujar", "¿puedes dibujar", "¿podrías dibujar", "¿me haces", "prepara",
)  # fmt: skip
_KINDS = (
    "", "", "", "una imagen de", "un dibujo de", "una imagen con", "un dibujo con", "una imagen que muestre", "una foto de",
    "una ilustración de", "un dibujo sencillo de", "una imagen en la que haya", "un cuadro con", "algo como",
)  # fmt: skip
_STATEMENTS = (
    "necesito", "deseo", "quiero ver", "queremos", "hay", "debe haber", "imagen:", "dibujo:", "una imagen de", "un dibujo de",
    "una foto de", "una ilustración de", "déjame ver", "puedo ver", "lo que quiero es", "mi hijo quiere", "busco", "imagina",
    "aquí está", "esto es", "se ve", "es", "sueño con", "qué tal", "y si dibujas", "sabes dibujar", "solo", "simplemente",
    "estaría bien tener", "esperaba", "vemos", "piensa en", "tráeme", "mi favorito es", "imagen de", "dibujo de", "con",
    "una imagen con", "un dibujo con", "una pintura de", "me encanta", "la imagen tiene", "tengo ganas de ver", "pon", "ponme",
    "únicamente", "un boceto de", "me hace falta", "estoy pensando en", "¿tienes", "¿qué tal", "que aparezca", "que haya",
)  # fmt: skip

OPENERS = tuple(
    sorted({" ".join(p for p in parts if p) for parts in product(_POLITE, _COMMANDS, _KINDS)} | set(_STATEMENTS))
)
CLOSERS = (
    "por favor", "para mí", "gracias", "muchas gracias", "en la imagen", "si puedes", "ahora mismo", "para mi hija",
    "y nada más", "en un estilo sencillo", "como imagen", "vale", "estaría bien", "para la escuela", "y eso es todo",
    "rápido", "si es posible", "cuando tengas tiempo", "en mi pantalla", "es lo que necesito", "para una tarjeta", "hoy",
    "en el centro", "y gracias", "para mi amigo", "ahora", "te lo agradezco", "cuando puedas",
)  # fmt: skip

_BEHIND = (
    "sobre un fondo {}", "sobre un fondo {}", "sobre fondo {}", "en un fondo {}", "con fondo {}", ", fondo {}", "con un fondo {}",
    "en fondo {}", "con el fondo {}", ", y el fondo es {}", "y el fondo debe ser {}", "delante de un fondo {}", "sobre {}",
    "sobre papel {}", "sobre un lienzo {}", "sobre un fondo de color {}", "; fondo {}", ", y haz el fondo {}",
    "encima de un fondo {}",
)  # fmt: skip
_AHEAD = ("sobre un fondo {}, ", "un fondo {} con ", "fondo {}, ", "sobre fondo {}, ", "un fondo {} y ")
_BESIDE = (
    "{a} y {b}", "{a} y {b}", "{a} y {b}", "{a}, {b}", "{a} junto a {b}", "{a} al lado de {b}", "{a} y luego {b}", "{a} con {b}",
    "{a} a la izquierda de {b}", "{a} a la izquierda de {b}", "{b} a la derecha de {a}", "{b} a la derecha de {a}",
    "{a} a la izquierda y {b} a la derecha", "{b} a la derecha y {a} a la izquierda", "a la izquierda {a}, a la derecha {b}",
    "{a} y {b} uno al lado del otro", "{a} con {b} a su derecha", "{b} con {a} a su izquierda", "{a}, y a la derecha {b}",
    "{a} más {b}", "{a} que está a la izquierda de {b}", "{a} al lado izquierdo de {b}", "{a} y también {b}",
)  # fmt: skip
_STACKED = (
    "{a} encima de {b}", "{a} encima de {b}", "{a} sobre {b}", "{a} arriba de {b}", "{a} por encima de {b}", "{b} debajo de {a}",
    "{b} debajo de {a}", "{b} bajo {a}", "{b} abajo de {a}", "{b} por debajo de {a}", "{a} arriba y {b} abajo",
    "{b} abajo y {a} arriba", "arriba {a}, abajo {b}", "{a} con {b} debajo", "{b} con {a} encima", "{a} y debajo {b}",
    "{b} y encima {a}", "{a} que está encima de {b}", "{b} que está debajo de {a}", "abajo {b} y arriba {a}",
)  # fmt: skip

_PLAIN_LETTERS = str.maketrans("áéíóúÁÉÍÓÚ", "aeiouAEIOU")


def without_accents(text: str) -> str:
    """The text as many people type it."""
    return text.translate(_PLAIN_LETTERS)


def describe(scene: Scene, rng: random.Random) -> str:
    """One of many ways to say what a scene shows; the white background often goes without saying."""
    text = _figures(scene, rng).replace(" de el ", " del ").replace(" a el ", " al ")
    if scene.background == "white" and rng.random() < 0.7:
        return text
    colour = rng.choice(_COLOURS[scene.background])
    if rng.random() < 0.12:
        return rng.choice(_AHEAD).format(colour) + text
    behind = rng.choice(_BEHIND).format(colour)
    return text + ("" if behind[0] in ",;" else " ") + behind


def _figures(scene: Scene, rng: random.Random) -> str:
    if scene.arrangement == "alone":
        return _noun_phrase(scene.figures[0], rng)
    first, second = scene.figures
    if first == second and rng.random() < 0.7:
        return _equal_pair(scene, rng)
    if (
        first.shape == second.shape
        and first != second
        and None not in (first.colour, second.colour)
        and rng.random() < 0.12
    ):
        return _same_shape_pair(scene, rng)
    ways = _BESIDE if scene.arrangement == "beside" else _STACKED
    return rng.choice(ways).format(a=_noun_phrase(first, rng), b=_noun_phrase(second, rng))


def _same_shape_pair(scene: Scene, rng: random.Random) -> str:
    first, second = scene.figures
    one, another = ("una", "otra") if first.shape == "star" else ("uno", "otro")
    between = f"y {another}" if scene.arrangement == "beside" else f"encima de {one}"
    return f"dos {_NOUNS[first.shape]}s, {one} {_adjective(first, rng)} {between} {_adjective(second, rng)}"


def _equal_pair(scene: Scene, rng: random.Random) -> str:
    figure = scene.figures[0]
    words = [rng.choice(("dos", "dos", "2", "un par de")), _NOUNS[figure.shape] + "s"]
    if figure.colour:
        colour = _adjective(figure, rng)
        words.append(colour + ("es" if colour == "azul" else "s"))
    text = " ".join(words)
    one, other = ("una", "otra") if figure.shape == "star" else ("uno", "otro")
    the_other = "la otra" if figure.shape == "star" else "el otro"
    if scene.arrangement == "beside":
        return text + rng.choice(("", "", "", f" {one} al lado de {the_other}", " juntos", f", {one} junto a {other}"))
    return text + rng.choice(
        (f", {one} encima de {the_other}", f", {one} debajo de {the_other}", f" {one} sobre {other}")
    )


def _noun_phrase(figure: Figure, rng: random.Random) -> str:
    feminine = figure.shape == "star"
    article = rng.choice(("una", "una", "una", "la", "") if feminine else ("un", "un", "un", "el", ""))
    words = [article, _NOUNS[figure.shape]]
    if figure.colour:
        of_colour = f"de color {rng.choice(_COLOURS[figure.colour])}"
        words.append(of_colour if rng.random() < 0.08 else _adjective(figure, rng))
    if rng.random() < 0.1:
        words.insert(rng.randrange(2, len(words) + 1), rng.choice(_ADJECTIVES))
    return " ".join(word for word in words if word)


def _adjective(figure: Figure, rng: random.Random) -> str:
    assert figure.colour is not None
    word = rng.choice(_COLOURS[figure.colour])
    return word[:-1] + "a" if figure.shape == "star" and word.endswith("o") else word
