"""Questions from outside the small world, to which the honest answer is that the model does not know."""

from __future__ import annotations

from random import Random

from trenza_recipes.starter_chat.exchange import Episode, Exchange
from trenza_recipes.starter_chat.judging import Mentions
from trenza_recipes.starter_chat.kinds.arithmetic import ASKED_SUMS, SIGNS, SPOKEN_SIGNS, number, sum_key
from trenza_recipes.starter_chat.surface import ask
from trenza_recipes.starter_chat.words import NAMES, ORDINARY_WORDS, draw_unseen_word
from trenza_recipes.starter_chat.world import LARGEST_NUMBER, THINGS

BEYOND_SHARE = 0.1
KNOWN_THING_SHARE = 0.12

# A question is held out by its template: no held-out template is ever seen, whatever fills its places.
# {o} an ordinary word, {x} a made-up word, {p} a person, {n} a number above twenty.
QUESTIONS: dict[str, tuple[str, ...]] = {
    "en": (
        "Who won the world cup in {n}?", "Who is the president of {x}?", "What is the weather like today?",
        "What day is it today?", "What day is it?", "How do you say {o} in Spanish?", "Translate {o} into Spanish.",
        "Will it rain tomorrow?", "What time is it?", "How old are you?", "How old is {p}?", "Where does {p} live?",
        "Who is {p}?", "Write a poem about a {o}.", "Write a story about a {o}.", "Tell me a joke.", "Tell me a story.",
        "Sing a song about the {o}.", "What is the meaning of life?", "How do I bake a {o}?", "How do I repair a {o}?",
        "How much does a {o} cost?", "How tall is the {o}?", "How heavy is a {o}?", "How far is the {o} from here?",
        "What is a {o}?", "What is a {x}?", "What does {x} mean?", "What does a {o} eat?", "Why is the {o} broken?",
        "Why do people like the {o}?", "Where can I buy a {o}?", "Where is the {o}?", "When was the {o} invented?",
        "Who invented the {o}?", "Who wrote the {o}?", "Who painted the {o}?", "How does a {o} work?",
        "Explain how a {o} works.", "Explain quantum physics.", "Explain the theory of relativity.",
        "What is the speed of light?", "How many people live in {x}?", "What is the population of {x}?",
        "What is the capital of {x}?", "What is the capital of the {o}?", "What colour is a {x}?",
        "What colour is a {o}?", "What is the colour of a {o}?", "What colour is the {o} of {p}?",
        "What colour is my {o}?", "What colour is the {x}?", "What language do they speak in {x}?",
        "What is the best {o} in the world?", "Which {o} should I buy?", "Recommend a {o}.",
        "Give me a recipe for {o}.", "What should I eat tonight?", "What should I wear with a {o}?", "Do you love {p}?",
        "Do you like the {o}?", "Do you have a {o}?", "Have you seen my {o}?", "Where is my {o}?",
        "Can you drive a {o}?", "Can a {o} fly?", "Can a {o} swim?", "Is a {o} bigger than a {o}?",
        "Is the {o} far away?", "Is {p} at home?", "Is it raining?", "Is {x} a country?", "What is {n} plus {n}?",
        "What is {n} minus {n}?", "What is {n} times {n}?", "What is {n} + {n}?", "What is {n} - {n}?",
        "How much is {n} divided by {n}?", "What is the square root of {n}?", "What is the value of pi?",
        "What happened in {n}?", "Who was born in {n}?", "What year is it?", "What is the date today?",
        "When is my birthday?", "When does the {o} leave?", "When does the {o} open?", "How long does the {o} last?",
        "How many {o}s are there in the world?", "How many legs does a {o} have?", "How many days until the {o}?",
        "What did {p} say?", "What did I eat yesterday?", "What is {p} doing?", "What is the name of my {o}?",
        "What is the name of your {o}?", "Who is my {o}?", "Tell me about the {o}.", "Tell me about {p}.",
        "Tell me about {x}.", "Tell me something about the history of {x}.", "Describe a {o}.",
        "Describe the {o} of {x}.", "Summarise the book about the {o}.", "Translate the {o} into {x}.",
        "Write a program that sorts numbers.", "Write an email to {p}.", "Write a letter to my {o}.",
        "Plan a trip to {x}.", "Book a {o} for {p}.", "Order a {o}.", "Buy a {o} for me.", "Call {p} on the phone.",
        "Turn on the {o}.", "Turn off the {o}.", "Set an alarm for the morning.", "Play a {o}.", "Find a {o} near me.",
        "How do I get to the {o}?", "How do I learn to play the {o}?", "How do you make a {o}?",
        "Why is my {o} so old?", "Why does the {o} shine?", "What makes a {o} good?", "What is inside a {o}?",
        "What is under the {o}?", "What is the opposite of {o}?", "What rhymes with {o}?",
        "What is the difference between a {o} and a {o}?", "Which animal is the fastest?",
        "Which is the largest ocean?", "Which is the highest mountain?", "What is the longest river in {x}?",
        "Who discovered {x}?", "Who is the king of {x}?", "Who was the first person on the moon?", "Do {o}s sleep?",
        "Do you dream?", "Are there {o}s in {x}?", "Are you hungry?", "What is love?", "What is happiness?",
        "What is your favourite {o}?", "What is your favourite food?", "Where do you live?", "Where were you born?",
        "What do you think about the {o}?", "Should I marry {p}?", "Can you lend me a {o}?", "Can you see the {o}?",
        "Can you cook a {o}?", "Does {p} like the {o}?", "Does the {o} have a {o}?", "Did {p} find the {o}?",
        "Was {p} a {o}?", "How is the {o}?", "How is {p} today?", "Who ate my {o}?",
        "What about the {o}?", "Give me advice about my {o}.", "Help me with my {o}.", "Make me a {o}.",
        "Solve this problem about a {o}.", "What is the news today?", "What is the price of a {o} in {x}?",
        "How many calories are there in a {o}?", "How many players are there in a team?",
    ),
    "es": (
        "¿Quién ganó el mundial de {n}?", "¿Quién es el presidente de {x}?", "¿Qué tiempo hace hoy?",
        "¿Qué día es hoy?", "¿Cómo se dice {o} en inglés?", "Traduce {o} al inglés.", "¿Va a llover mañana?",
        "¿Qué hora es?", "¿Cuántos años tienes?", "¿Cuántos años tiene {p}?", "¿Dónde vive {p}?", "¿Quién es {p}?",
        "Escribe un poema sobre {o}.", "Escribe un cuento sobre {o}.", "Cuéntame un chiste.", "Cuéntame un cuento.",
        "Canta una canción sobre {o}.", "¿Cuál es el sentido de la vida?", "¿Cómo se prepara {o}?",
        "¿Cómo se arregla {o}?", "¿Cuánto cuesta {o}?", "¿Cuánto mide {o}?", "¿Cuánto pesa {o}?",
        "¿A qué distancia está {o}?", "¿Qué es {o}?", "¿Qué es {x}?", "¿Qué significa {x}?", "¿Qué come {o}?",
        "¿Por qué está roto {o}?", "¿Por qué gusta tanto {o}?", "¿Dónde puedo comprar {o}?", "¿Dónde está {o}?",
        "¿Cuándo se inventó {o}?", "¿Quién inventó {o}?", "¿Quién escribió {o}?", "¿Quién pintó {o}?",
        "¿Cómo funciona {o}?", "Explica cómo funciona {o}.", "Explica la física cuántica.",
        "Explica la teoría de la relatividad.", "¿Cuál es la velocidad de la luz?", "¿Cuánta gente vive en {x}?",
        "¿Cuál es la población de {x}?", "¿Cuál es la capital de {x}?", "¿Cuál es la capital de {o}?",
        "¿De qué color es {x}?", "¿De qué color es {o}?", "¿Qué color tiene un {o}?", "¿De qué color es un {x}?",
        "¿De qué color es mi {o}?", "¿De qué color es el {o} de {p}?", "¿Qué idioma se habla en {x}?",
        "¿Cuál es el mejor {o} del mundo?", "¿Qué {o} debo comprar?", "Recomiéndame {o}.", "Dame una receta de {o}.",
        "¿Qué ceno esta noche?", "¿Qué me pongo con {o}?", "¿Quieres a {p}?", "¿Te gusta {o}?", "¿Tienes {o}?",
        "¿Has visto mi {o}?", "¿Dónde está mi {o}?", "¿Sabes conducir {o}?", "¿Puede volar {o}?", "¿Puede nadar {o}?",
        "¿Es más grande {o} que {o}?", "¿Está lejos {o}?", "¿Está {p} en casa?", "¿Está lloviendo?", "¿Es {x} un país?",
        "¿Cuánto es {n} más {n}?", "¿Cuánto es {n} menos {n}?", "¿Cuánto es {n} por {n}?", "¿Cuánto es {n} + {n}?",
        "¿Cuánto es {n} - {n}?", "¿Cuánto es {n} entre {n}?", "¿Cuál es la raíz cuadrada de {n}?", "¿Cuánto vale pi?",
        "¿Qué pasó en {n}?", "¿Quién nació en {n}?", "¿En qué año estamos?", "¿Qué fecha es hoy?",
        "¿Cuándo es mi cumpleaños?", "¿Cuándo sale {o}?", "¿Cuándo abre {o}?", "¿Cuánto dura {o}?",
        "¿Cuántas patas tiene {o}?", "¿Cuántos días faltan para {o}?", "¿Qué dijo {p}?", "¿Qué comí ayer?",
        "¿Qué hace {p}?", "¿Cómo se llama mi {o}?", "¿Cómo se llama tu {o}?", "¿Quién es mi {o}?", "Háblame de {o}.",
        "Háblame de {p}.", "Háblame de {x}.", "Cuéntame algo de la historia de {x}.", "Describe {o}.",
        "Describe {o} de {x}.", "Resume el libro sobre {o}.", "Traduce {o} al {x}.",
        "Escribe un programa que ordene números.", "Escribe un correo a {p}.", "Escribe una carta a mi {o}.",
        "Planea un viaje a {x}.", "Reserva {o} para {p}.", "Pide {o}.", "Compra {o} para mí.",
        "Llama a {p} por teléfono.", "Enciende {o}.", "Apaga {o}.", "Pon una alarma para la mañana.", "Toca {o}.",
        "Busca {o} cerca de mí.", "¿Cómo llego a {o}?", "¿Cómo aprendo a tocar {o}?", "¿Cómo se hace {o}?",
        "¿Por qué es tan viejo mi {o}?", "¿Por qué brilla {o}?", "¿Qué hay dentro de {o}?", "¿Qué hay debajo de {o}?",
        "¿Qué es lo contrario de {o}?", "¿Qué rima con {o}?", "¿Qué diferencia hay entre {o} y {o}?",
        "¿Qué animal es el más rápido?", "¿Cuál es el océano más grande?", "¿Cuál es la montaña más alta?",
        "¿Cuál es el río más largo de {x}?", "¿Quién descubrió {x}?", "¿Quién es el rey de {x}?",
        "¿Quién fue el primero en pisar la luna?", "¿Duerme {o}?", "¿Sueñas?", "¿Hay {o} en {x}?", "¿Tienes hambre?",
        "¿Qué es el amor?", "¿Qué es la felicidad?", "¿Cuál es tu {o} favorito?", "¿Cuál es tu comida favorita?",
        "¿Dónde vives?", "¿Dónde naciste?", "¿Qué piensas de {o}?", "¿Debo casarme con {p}?", "¿Me prestas {o}?",
        "¿Puedes ver {o}?", "¿Sabes cocinar {o}?", "¿Le gusta {o} a {p}?", "¿Encontró {p} mi {o}?", "¿Era {p} {o}?",
        "¿Cómo es {o}?", "¿Cómo está {p} hoy?", "¿Quién se comió mi {o}?", "¿Y qué hay de {o}?",
        "Dame un consejo sobre mi {o}.", "Ayúdame con mi {o}.", "Hazme {o}.", "Resuelve este problema sobre {o}.",
        "¿Qué noticias hay hoy?", "¿Qué precio tiene {o} en {x}?", "¿Cuántas calorías tiene {o}?",
        "¿Cuántos jugadores tiene un equipo?", "¿Qué libro me recomiendas?", "¿Qué película puedo ver?",
        "¿Qué música te gusta?",
    ),
}  # fmt: skip
ANSWERS = {
    "en": "I do not know that. I am a small model and only know a few simple things.",
    "es": "No lo sé. Soy un modelo pequeño y solo sé unas pocas cosas sencillas.",
}
REQUIRED = {"en": ("do not know", "small model"), "es": ("no lo sé", "modelo pequeño")}


def fill(rng: Random, template: str, language: str) -> str:
    """`template` with every place filled at random."""
    about_colour = "colo" in template
    while "{" in template:
        place = template[template.index("{") : template.index("}") + 1]
        if place == "{o}":
            chosen = rng.choice(ORDINARY_WORDS[language])
            if rng.random() < KNOWN_THING_SHARE and not about_colour:
                chosen = rng.choice(THINGS).name(language).split()[-1]
        elif place == "{p}":
            chosen = rng.choice(NAMES)
        elif place == "{n}":
            chosen = str(rng.randint(21, 2100) if rng.random() < 0.5 else rng.randint(21, 99))
        else:
            chosen = draw_unseen_word(rng, language)
            chosen = chosen.capitalize() if rng.random() < 0.5 else chosen
        template = template.replace(place, chosen, 1)
    return template


def _draw_sum_beyond(rng: Random, language: str) -> tuple[str, str]:
    """A sum of small numbers whose result is above twenty or below zero, and its key."""
    kind = rng.choice(("addition", "subtraction"))
    small = rng.randint(1, LARGEST_NUMBER - 1)
    span = (LARGEST_NUMBER + 1 - small, LARGEST_NUMBER) if kind == "addition" else (0, small - 1)
    left, right = rng.randint(*span), small
    in_words = rng.random() < 0.45
    sign = SPOKEN_SIGNS[kind, language] if in_words or rng.random() < 0.4 else SIGNS[kind]
    asked = f"{number(left, language, in_words)} {sign} {number(right, language, in_words)}"
    question, _ = ask(rng, rng.choice(ASKED_SUMS[language]), language, asked)
    return question, f"unknown:{sum_key(kind, left, right)}"


def draw_unknown(rng: Random, language: str) -> Episode:
    """A question that the model cannot answer."""
    if rng.random() < BEYOND_SHARE:
        question, key = _draw_sum_beyond(rng, language)
    else:
        template = rng.choice(QUESTIONS[language])
        question, _ = ask(rng, fill(rng, template, language), language)
        key = f"unknown:{template}"
    return (Exchange("unknown", language, (key,), question, ANSWERS[language], Mentions(REQUIRED[language])),)
