"""Spanish: how figures are named, asked for and told of."""

from __future__ import annotations

from trenza_recipes.starter_draw.world import Colour, Shape
from trenza_recipes.starter_vision.language import Words
from trenza_recipes.starter_vision.world import Ground

_NOUNS: dict[Shape | None, str] = {
    "circle": "círculo",
    "square": "cuadrado",
    "triangle": "triángulo",
    "star": "estrella",
    None: "figura",
}
_COLOURS: dict[Ground, str] = {
    "red": "rojo",
    "green": "verde",
    "blue": "azul",
    "yellow": "amarillo",
    "orange": "naranja",
    "purple": "morado",
    "black": "negro",
    "white": "blanco",
    "grey": "gris",
}
_NUMBERS = ("ningún", "un", "dos", "tres", "cuatro")
_FEMININE = ("star", None)


def _coloured(colour: Ground, shape: Shape | None, several: bool) -> str:
    word = _COLOURS[colour]
    if word.endswith("o") and shape in _FEMININE:
        word = word[:-1] + "a"
    if not several:
        return word
    return word + ("s" if word[-1] in "aeo" else "es")


def _figure(colour: Colour | None, shape: Shape | None, several: bool) -> str:
    noun = _NOUNS[shape] + ("s" if several else "")
    return f"{noun} {_coloured(colour, shape, several)}" if colour else noun


def _a(colour: Colour | None, shape: Shape | None) -> str:
    return f"{'una' if shape in _FEMININE else 'un'} {_figure(colour, shape, False)}"


def _the(colour: Colour | None, shape: Shape | None, several: bool) -> str:
    article = ("las" if several else "la") if shape in _FEMININE else ("los" if several else "el")
    return f"{article} {_figure(colour, shape, several)}"


def _of_the(colour: Colour | None, shape: Shape | None) -> str:
    named = _the(colour, shape, False)
    return "del" + named[2:] if named.startswith("el ") else f"de {named}"


def _number(count: int, shape: Shape | None) -> str:
    return _NUMBERS[count] + ("a" if count == 1 and shape in _FEMININE else "")


def _over_pictures(*wordings: str) -> tuple[str, ...]:
    """Each wording with every word for a picture; @ is the article too, and "este" or "esta" where it is %."""
    words = (("la imagen", "esta imagen"), ("el dibujo", "este dibujo"), ("la foto", "esta foto"))
    found = []
    for wording in wordings:
        for the, this in words if "@" in wording or "%" in wording else words[:1]:
            found.append(wording.replace("@", the).replace("%", this).replace("de el ", "del "))
    return tuple(found)


SPANISH = Words(
    name="es",
    figure=_figure,
    a=_a,
    the=_the,
    of_the=_of_the,
    coloured=_coloured,
    number=_number,
    sides={
        "left": "a la izquierda",
        "right": "a la derecha",
        "above": "encima",
        "below": "debajo",
    },
    asked_sides={
        "left": ("a la izquierda", "a la izquierda", "al lado izquierdo"),
        "right": ("a la derecha", "a la derecha", "al lado derecho"),
        "above": ("encima", "arriba", "por encima"),
        "below": ("debajo", "abajo", "por debajo"),
    },
    places={
        "left": "a la izquierda",
        "right": "a la derecha",
        "top": "arriba",
        "bottom": "abajo",
        "middle": "en el centro",
    },
    conjunction="y",
    questions={
        "describe": _over_pictures(
            "¿Qué hay en %?", "¿Qué hay en @?", "¿Qué ves en %?", "¿Qué ves en @?", "¿Qué ves?",
            "¿Qué se ve en @?", "¿Qué es esto?",
            "¿Qué muestra %?", "Describe %.", "Describe @.", "Describe @, por favor.", "Por favor, describe %.", "Dime qué ves.",
            "¿Puedes describir @?", "Describe lo que ves.", "¿Qué aparece en %?", "¿Qué aparece en @?", "¿Qué puedes ver en %?",
            "¿Qué figuras hay en @?", "¿Qué figuras ves?", "Háblame de %.", "¿Qué contiene %?", "Describe % en una frase.",
            "¿Qué hay dibujado aquí?", "¿Qué hay aquí?", "Explica %.", "¿Qué objetos hay en @?", "Cuéntame qué hay en %.",
        ),
        "shapes": _over_pictures(
            "¿Qué formas hay en @?", "¿Qué formas hay?", "¿Qué formas ves?", "¿Qué formas ves en %?", "¿Cuáles son las formas?",
            "Nombra las formas.", "Di qué formas hay en @.", "¿Qué formas aparecen en @?", "¿Qué tipos de formas hay?",
            "¿Qué formas muestra %?", "Enumera las formas.",
        ),
        "colours": _over_pictures(
            "¿De qué colores son las figuras?", "¿Qué colores tienen las figuras?", "¿De qué color son las figuras?",
            "¿Cuáles son los colores de las figuras?", "Nombra los colores de las figuras.", "¿Qué colores tienen las formas?",
            "¿De qué colores son las formas?", "Di los colores de las figuras.", "¿De qué colores son las figuras en @?",
        ),
        "shape": _over_pictures(
            "¿Qué forma es?", "¿Qué forma es esta?", "¿Qué forma hay en @?", "¿Qué forma ves?", "¿Qué forma tiene?",
            "¿Qué forma tiene la figura?", "¿Qué forma se ve?", "¿Qué figura es?",
        ),
        "colour": _over_pictures(
            "¿De qué color es?", "¿Qué color tiene?", "¿De qué color es la figura?", "¿Qué color tiene la figura?",
            "¿Cuál es el color de la figura?",
        ),
        "colour of": _over_pictures(
            "¿De qué color es {the}?", "¿Qué color tiene {the}?", "¿Cuál es el color {of_the}?", "Dime el color {of_the}.",
            "Dime de qué color es {the}.", "¿De qué color es {the} en @?", "¿De qué color ves {the}?",
        ),
        "shape of": _over_pictures(
            "¿Qué forma tiene {the}?", "¿Cuál es la forma {of_the}?", "¿Qué forma es {colour}?", "¿Qué figura es {colour}?",
            "¿Qué es {the}?", "Dime qué forma tiene {the}.", "¿Qué figura {colour} hay?", "¿Qué figura {colour} hay en @?",
        ),
        "count": _over_pictures(
            "¿{many} {figures} hay?", "¿{many} {figures} hay en @?", "¿{many} {figures} ves?", "¿{many} {figures} ves en %?",
            "Cuenta {all}.", "¿{many} {figures} aparecen?", "¿{many} {figures} se ven en @?", "Dime cuánt{o}s {figures} hay.",
            "¿Cuál es el número de {figures}?", "¿{many} {figures} puedes ver?", "¿{many} {figures} hay en total?",
        ),
        "where": _over_pictures(
            "¿Dónde está {the}?", "¿Dónde está {the} en @?", "¿Dónde ves {the}?", "Dime dónde está {the}.",
            "¿En qué parte de @ está {the}?", "¿Dónde se ve {the}?", "¿Cuál es la posición {of_the}?",
        ),
        "relation": (
            "¿Dónde está {the} respecto {to_the_other}?", "¿Dónde está {the} con respecto {to_the_other}?",
            "¿En qué lado {of_the_other} está {the}?", "¿Dónde está {the} en relación con {the_other}?",
            "¿De qué lado {of_the_other} está {the}?",
        ),
        "beside": _over_pictures(
            "¿Qué hay {side} {of_the}?", "¿Qué figura hay {side} {of_the}?", "¿Qué ves {side} {of_the}?",
            "¿Qué está {side} {of_the}?",
            "¿Qué figura está {side} {of_the}?", "¿Qué se ve {side} {of_the}?", "Dime qué hay {side} {of_the}.",
            "¿Qué forma hay {side} {of_the}?",
        ),
        "ground": _over_pictures(
            "¿De qué color es el fondo?", "¿Qué color tiene el fondo?", "¿Sobre qué fondo?", "¿Cuál es el color del fondo?",
            "¿Cómo es el fondo?", "¿Qué fondo tiene @?", "Dime el color del fondo.", "¿Sobre qué fondo están las figuras?",
            "¿Cuál es el color de fondo de @?", "¿Qué color de fondo tiene %?",
        ),
        "is there": _over_pictures(
            "¿Hay {a}?", "¿Hay {a} en @?", "¿Ves {a}?", "¿Ves {a} en %?", "¿Puedes ver {a}?", "¿Se ve {a}?", "¿Aparece {a} en @?",
            "¿Hay {a} en %?",
        ),
        "are there": _over_pictures(
            "¿Hay {figures}?", "¿Hay {figures} en @?", "¿Ves {figures}?", "¿Ves {figures} en %?", "¿Se ven {figures}?",
            "¿Aparecen {figures} en @?",
        ),
        "is it": _over_pictures(
            "¿Es {colour} {the}?", "¿{The} es {colour}?", "¿Es verdad que {the} es {colour}?", "¿{The} en @ es {colour}?",
            "¿Es {the} {colour}?",
        ),
        "is ground": (
            "¿El fondo es {colour}?", "¿Es {colour} el fondo?", "¿Tiene un fondo {colour}?", "¿El color del fondo es {colour}?",
        ),
        "is beside": (
            "¿Está {the} {side} {of_the_other}?", "¿{The} está {side} {of_the_other}?", "¿Ves {the} {side} {of_the_other}?",
            "¿Es verdad que {the} está {side} {of_the_other}?",
        ),
        "are so many": _over_pictures(
            "¿Hay {number} {figures}?", "¿Ves {number} {figures}?", "¿Hay exactamente {number} {figures} en @?",
            "¿Puedes ver {number} {figures}?", "¿Son {number} {figures}?",
        ),
        "other": _over_pictures(
            "¿Cuál es la capital de Francia?", "¿Qué tiempo hace?", "¿Quién eres?", "¿Cómo te llamas?", "¿Cuántos años tienes?",
            "¿Qué hora es?", "¿Quién es el presidente?", "¿Cuánto es dos más dos?", "¿Qué día es hoy?", "Cuéntame un chiste.",
            "¿Quién pintó %?", "¿Cuándo se hizo %?", "¿Hay un perro en @?", "¿Ves un gato?",
            "¿Cuál es el precio?", "¿Qué altura tiene?",
            "Escribe un poema.", "¿Qué dice el texto?", "¿Puedes leer el texto?", "¿Hay una persona en @?", "¿Qué ropa lleva?",
            "¿Está lloviendo?", "¿Dónde se tomó %?", "¿Quién sale en %?", "¿Te gusta la música?", "¿Cuánto cuesta?",
            "¿Qué animal es este?", "¿Hay una casa en @?", "¿Qué temperatura hace?", "¿Qué ciudad es esta?",
            "Traduce esto al alemán.",
            "Escribe un programa.", "¿Qué dije ayer?", "¿Quién ganó el partido?", "¿Hay un coche en @?",
            "¿Cómo se cocina el arroz?",
        ),
        "other word": (
            "¿Qué es {word}?", "¿Dónde está {word}?", "¿Hay {word}?", "¿Ves {word}?",
            "¿Qué significa {word}?", "Háblame de {word}.",
            "¿Por qué {word}?", "¿Sabes algo de {word}?",
        ),
        "greeting": ("Hola", "¡Hola!", "Hola.", "Buenos días", "¡Buenos días!", "Buenas tardes", "¡Hola, buenos días!"),
        "thanks": ("Gracias", "¡Gracias!", "Gracias.", "Muchas gracias.", "¡Muchas gracias!", "Perfecto, gracias."),
    },
    answers={
        "no figures": "No hay figuras en esta imagen.",
        "other": "Eso no lo sé. Solo sé de las figuras de la imagen.",
        "no picture": "Necesito una imagen para eso. Envíame una, por favor.",
        "greeting": "¡Hola! Pregúntame por la imagen.",
        "thanks": "De nada.",
        "one": "Hay",
        "several": "Hay",
        "is": "es",
        "are": "son",
        "background": "El fondo es",
        "nothing": "No hay nada",
        "in the picture": "en la imagen",
        "yes": "Sí,",
        "no": "No,",
        "so yes": "así que sí",
        "so no": "así que no",
        "not so": "no hay",
        "not so many": "no hay",
        "there is": "hay",
        "there are": "hay",
        "the background": "el fondo es",
    },
)  # fmt: skip
