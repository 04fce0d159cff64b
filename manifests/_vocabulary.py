"""The words by which transcripts of the synthetic corpus show an emotion: a few are frequent, most are rare.

Their frequencies follow Zipf's law, as in any language: the word at rank r is 1/r times as frequent as the first. So
train rows hold words that occur once. An encoder that starts from random weights can learn these rows by heart, which
helps on no test row (X9).
"""

from __future__ import annotations

import numpy as np

CUE_WORDS = {
    "hap": (
        "happy glad cheerful pleased lovely delightful joyful grateful merry sunny content blissful charming sweet "
        "pleasant gentle warm cosy bright radiant smiling thankful blessed tender golden heavenly graceful peaceful "
        "jolly comforting fond friendly beautiful cherished satisfying soothing rosy welcoming wholesome adorable"
    ),
    "sad": (
        "sad lonely miserable tearful hopeless gloomy heartbroken sorrowful mournful bleak empty broken aching forlorn "
        "weeping grieving lost dismal wistful sombre melancholy dreary bereft desolate crushed wounded abandoned "
        "regretful despairing homesick downcast grim hollow tragic unhappy woeful doomed faded lifeless bitter"
    ),
    "neu": (
        "ordinary usual regular standard normal typical average routine plain common neutral moderate unchanged "
        "everyday familiar medium customary conventional unremarkable expected general practical formal basic simple "
        "middling fair adequate acceptable tolerable factual steady stable sensible mundane passable habitual uniform "
        "modest dry"
    ),
    "ang": (
        "angry furious hateful outraged hostile livid vicious enraged insulting offensive disgusting rotten cruel "
        "savage spiteful raging violent wicked disgraceful shameless despicable infuriating rude nasty brutal fierce "
        "bloody vile malicious insolent arrogant treacherous scandalous unforgivable monstrous ruthless venomous "
        "seething fuming menacing"
    ),
    "exc": (
        "excited thrilling amazing incredible fantastic awesome electrifying ecstatic sensational spectacular dazzling "
        "breathtaking wild brilliant superb stunning astonishing marvellous magnificent phenomenal terrific epic "
        "explosive exhilarating stupendous extraordinary unbelievable astounding glorious mighty dynamic fabulous "
        "triumphant tremendous euphoric legendary unreal staggering splendid rousing"
    ),
    "fru": (
        "frustrating annoying pointless useless tedious ridiculous stuck exhausting tiresome irritating maddening slow "
        "clumsy awkward confusing wasteful endless absurd impossible muddled messy bothersome laborious tangled inept "
        "sluggish chaotic senseless stupid cumbersome troublesome complicated jammed futile inefficient nagging vexing "
        "unworkable outdated bureaucratic"
    ),
}


def words(emotion: str, count: int, rng: np.random.Generator) -> list[str]:
    """Draws `count` different words that show the emotion."""
    known = CUE_WORDS[emotion].split()
    weights = 1 / np.arange(1, len(known) + 1)
    drawn: list[str] = rng.choice(known, count, replace=False, p=weights / weights.sum()).tolist()
    return drawn
