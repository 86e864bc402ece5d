"""Verbs, by the concept that they stand for; their other forms are derived (see `words`)."""

from __future__ import annotations

VERBS = {
    "calm": (
        "soothe relax unwind meditate breathe inhale exhale caress flow glide lull ease comfort soften settle whisper"
        " bloom blossom sip stroll wander embrace hug kiss heal nurture cuddle nap snooze rest mellow linger simmer"
        " trickle sway cherish love marry patter chatter murmur snuggle"
    ),
    "happy": (
        "celebrate laugh smile giggle enjoy cheer rejoice amuse joke grin skip hop bounce tickle wink frolic prance"
        " delight chuckle wiggle waddle tumble juggle sparkle party travel shine bake tease splash squeak purr"
    ),
    "sad": "cry weep mourn grieve sob yearn lament hurt suffer regret reminisce ache wither sigh complain",
    "dark": (
        "haunt lurk creep stalk menace threaten die kill murder bleed rot decay curse frighten terrify scare spook"
        " horrify sneak betray destroy ruin invade infect corrupt suffocate trap brood loom scheme torture poison"
        " drown stress worry creak clank clang"
    ),
    "energetic": (
        "intensify pump pound blast smash explode erupt rage shout scream yell rush race chase fight attack propel"
        " fuel charge ignite electrify thrill excite exhilarate invigorate energize motivate stimulate slam crash"
        " thrash surge bustle clash collide roar burst gallop sprint dash run jump kick punch battle compete hammer"
        " stomp shake accelerate growl rebel riot escape climb workout train exercise jog rip burn shoot wail"
    ),
    "dreamy": (
        "float drift shimmer glisten mesmerize hypnotize enchant swirl whirl echo reverberate transcend hover dream"
        " levitate glow flicker dissolve orbit fly fall spiral immerse entrance resonate dazzle drench gaze"
    ),
    "epic": (
        "triumph conquer soar ascend culminate overcome empower prevail rise survive uplift inspire build tower crown"
        " unite climax unleash persevere march sail"
    ),
    "choir": "sing harmonize harmonise vocalize yodel croon belt worship praise pray chant",
    "guitar": "strum fingerpick",
    "dist": "distort shred chug overdrive riff crunch",
    "arp": "arpeggiate cascade",
    "drums": "drum clap thump thud rattle clatter tap click",
    "dance": "dance groove boogie",
    "hiphop": "rap rhyme freestyle scratch",
    "classical": "waltz",
    "orchestra": "orchestrate",
    "electronic": "synthesize synthesise digitize glitch automate program stutter chop",
    "ambient": "rustle",
    "jazz": "swing improvise scat jam",
    "flute": "whistle chirp tweet",
    "drone": "drone hum",
    "vibraphone": "chime ring clink",
    "cinematic": "narrate film dramatize",
    "lullaby": "cradle swaddle",
    "slow": "slow crawl plod",
    "fast": "speed hurry",
    "taiko": "rumble",
}
