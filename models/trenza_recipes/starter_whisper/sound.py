"""What happens to speech on its way: noise, rooms, narrow bands, loudness; and sounds that are no speech."""

from __future__ import annotations

import numpy as np

from trenza_recipes.starter_whisper.speech import RATE, Wave, smooth_length


def coloured_noise(dice: np.random.Generator, length: int) -> Wave:
    """Noise of unit power, white to brown or bluish."""
    padded = smooth_length(max(length, 64))
    noise = dice.standard_normal(padded).astype(np.float32)
    kind = dice.integers(4)
    if kind:
        spectrum = np.fft.rfft(noise)
        slope = -0.5 * kind if kind < 3 else dice.uniform(-0.9, 0.3)
        noise = np.fft.irfft(spectrum * (np.arange(len(spectrum)) + 20.0) ** slope, padded).astype(np.float32)
    cut: Wave = noise[:length] / (noise[:length].std() + np.float32(1e-9))
    return cut


def _filtered(wave: Wave, gain_db: np.ndarray) -> Wave:
    """The wave with these gains, evenly spread from 0 to 8 kHz."""
    padded = smooth_length(len(wave))
    spectrum = np.fft.rfft(np.pad(wave, (0, padded - len(wave))))
    places = np.linspace(0, 1, len(spectrum))
    gains = 10 ** (np.interp(places, np.linspace(0, 1, len(gain_db)), gain_db) / 20)
    turned: Wave = np.fft.irfft(spectrum * gains, padded)[: len(wave)].astype(np.float32)
    return turned


def coloured(dice: np.random.Generator, wave: Wave) -> Wave:
    """The wave through a microphone that is not flat."""
    return _filtered(wave, dice.uniform(-8, 8, 7))


def narrowed(dice: np.random.Generator, wave: Wave) -> Wave:
    """The wave without its highest frequencies, as codecs leave it: from 3.5 to 7.5 kHz on."""
    gains = np.zeros(33)
    gains[int(dice.integers(14, 31)) :] = -90.0
    return _filtered(wave, gains)


def in_a_room(dice: np.random.Generator, wave: Wave) -> Wave:
    """The wave with a little reverberation."""
    length = int(RATE * dice.uniform(0.05, 0.2))
    echo = dice.standard_normal(length) * np.exp(-np.arange(length) / (length / 5))
    echo *= dice.uniform(0.1, 0.4) / np.sqrt((echo**2).sum())
    echo[0] = 1.0
    padded = smooth_length(len(wave) + length)
    spectrum = np.fft.rfft(wave, padded) * np.fft.rfft(echo, padded)
    heard: Wave = np.fft.irfft(spectrum, padded)[: len(wave)].astype(np.float32)
    return heard


def speech_power(wave: Wave) -> float:
    """The mean power of the parts that are not silent."""
    loud = np.abs(wave) > 0.01
    return float((wave**2).sum() / max(1, int(loud.sum())))


def with_noise(dice: np.random.Generator, wave: Wave, signal_to_noise_db: float) -> Wave:
    """The wave with coloured noise at this ratio to its speech."""
    level = np.float32(np.sqrt(speech_power(wave)) * 10 ** (-signal_to_noise_db / 20))
    return wave + coloured_noise(dice, len(wave)) * level


def _tones(dice: np.random.Generator, length: int) -> Wave:
    """One to four tones, steady, sliding or beating."""
    time_s = np.arange(length) / RATE
    heard = np.zeros(length)
    base = float(np.exp(dice.uniform(np.log(60), np.log(4000))))
    slide = dice.choice([0.0, 0.0, dice.uniform(-0.5, 0.5)])
    for part in range(int(dice.integers(1, 5))):
        frequency = base * (part + 1 if dice.random() < 0.5 else dice.uniform(0.5, 3))
        turns = frequency * time_s * (1 + slide * time_s) + dice.uniform(0, 1)
        heard += dice.uniform(0.2, 1) * np.sin(2 * np.pi * turns)
    if dice.random() < 0.3:
        heard *= 0.5 + 0.5 * np.sin(2 * np.pi * dice.uniform(0.3, 12) * time_s)
    if dice.random() < 0.4:
        edge = int(dice.uniform(0, 0.6) * length)
        heard[:edge] = 0
        heard[length - int(dice.uniform(0, 0.4) * length) :] = 0
    return heard.astype(np.float32)


def _knocks(dice: np.random.Generator, length: int) -> Wave:
    """A few short bursts of noise."""
    heard = np.zeros(length, np.float32)
    for start in dice.integers(0, length, int(dice.integers(1, 6))):
        burst = min(length - int(start), int(dice.uniform(40, 2500)))
        fading = np.exp(-np.arange(burst) / (burst / 4))
        heard[start : start + burst] += coloured_noise(dice, max(burst, 2))[:burst] * fading
    return heard


def no_speech(dice: np.random.Generator, length: int) -> Wave:
    """Silence, noise, tones or knocks."""
    kind = dice.random()
    level = 10 ** (dice.uniform(-60, 0) / 20)
    if kind < 0.2:
        return np.zeros(length, np.float32)
    if kind < 0.55:
        wave = coloured_noise(dice, length) * 0.25
    elif kind < 0.85:
        wave = _tones(dice, length)
        if dice.random() < 0.4:
            wave = with_noise(dice, wave / (np.abs(wave).max() + 1e-6), dice.uniform(5, 40))
    else:
        wave = _knocks(dice, length)
    scaled: Wave = (wave / (np.abs(wave).max() + 1e-6) * level).astype(np.float32)
    return scaled
