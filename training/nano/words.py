"""
The vocabulary: which words and phrases of a prompt stand for which concepts. The model knows concepts alone.

All words of a concept have the same embedding: `gloomy` and `dark`, for example. Phrases are replaced before words are
looked up; see `phrases`. Other words mean nothing, but all letters of a prompt enter its hues. Names of artists are
left out on purpose.
"""

from __future__ import annotations

from training.nano.keys import KEYS
from training.nano.plan import ABSENT, HUES, INSTRUMENTS, KITS, UNKNOWN, hue
from training.nano.pulse import BEAT_FRAMES
from training.nano.styles import GENRES, MOODS

SPECIAL = ("<pad>", "</s>", UNKNOWN)
TEMPI = {f"bpm_{frames}": frames for frames in BEAT_FRAMES}
CONCEPTS: tuple[str, ...] = (
    *SPECIAL,
    *GENRES,
    *MOODS,
    *INSTRUMENTS,
    *KITS,
    *("drums", "solo", "slow", "medium", "fast", "major", "minor", "electronic", "acoustic", "dance", "orchestra"),
    *("jingle", "drone"),
    *(f"no_{name}" for name in ABSENT),
    *TEMPI,
    *(f"key_{number}" for number in range(len(KEYS))),
    *(hue(number, value) for number, count in enumerate(HUES) for value in range(count)),
)

# Nouns, by concept; their plurals are derived.
NOUNS = {
    "ambient": (
        "ambient ambience soundscape atmosphere soundbath noise meditation mindfulness newage scape bowl frequency"
        " reiki whale room airport vastness noisescape"
    ),
    "techno": (
        "techno trance rave hardstyle psytrance goa eurodance gabber hardtek tekno industrial schranz acid"
        " warehouse robot factory machine strobe bassdrop laser"
    ),
    "house": (
        "house electro edm nightclub club clubbing garage eurohouse runway catwalk rooftop fashion amapiano"
        " poolside mall"
    ),
    "lofi": "lofi chillhop chillout studybeat lowfi jazzhop coding programming cassette vinyl crackle",
    "jazz": (
        "jazz swing bebop bop lounge blue ragtime dixieland bigband hardbop cooljazz nightcap speakeasy cabaret"
        " saloon martini lobby elevator spy orleans prohibition improvisation improv restaurant saxophonist crooner"
        " sommelier"
    ),
    "classical": (
        "classic classical baroque sonata waltz minuet nocturne etude prelude concerto fugue rondo serenade mazurka"
        " bagatelle gavotte chamber opera aria intermezzo impromptu symphonietta renaissance romanticism partita"
        " scherzo divertimento toccata canon capriccio arabesque rhapsody bourree sarabande gigue allemande ballroom"
        " suite aristocrat palace salon ballet march palazzo museum gallery vienna court ball duchess duke baron"
        " countess carriage chandelier"
    ),
    "rock": (
        "rock grunge punk rocker garagerock indierock britpop rockabilly emo rocknroll postrock stoner shoegaze"
        " stadium arena biker motorcycle surf basement"
    ),
    "folk": (
        "folk country americana bluegrass celtic campfire songwriter ballad shanty polka hoedown bard troubadour"
        " honkytonk jig reel medieval hillbilly cowboy farm prairie village tavern road inn pub barn valley hill"
        " homestead harvest peasant highland fado klezmer moor market blacksmith miller shepherd wagon creek ranch"
        " horseman bonfire lumberjack fiddlehead"
    ),
    "chiptune": (
        "chiptune arcade nes gameboy famicom sega console platformer videogame chipmusic pixel eightbit sixteenbit"
        " c64 commodore atari amiga snes jrpg rpg pixels minigame joystick cartridge"
    ),
    "cinematic": (
        "cinematic soundtrack trailer film movie cinema score filmscore blockbuster documentary teaser ost"
        " moviescore overture cutscene scene credit news newscast broadcast headline drama montage underscore vista"
        " landscape savanna history biopic prologue epilogue finale canyon opening ceremony montages story narration"
        " lapse voiceover chapter episode screenplay director"
    ),
    "hiphop": (
        "hiphop rap rapper boombap beatmaker freestyle triphop cypher street hood graffiti skateboard beatbox"
        " beatboxing beatboxer turntable scratch"
    ),
    "pop": (
        "pop kpop jpop commercial advert advertisement hit chart popsong indie indiepop corporate radio promo vlog"
        " bubblegum anthem podcast video youtube vlogger tutorial presentation startup launch brand showroom estate"
        " phone mobile teen prom chorus shopping smartphone influencer selfie boutique"
    ),
    "synthwave": (
        "synthwave retrowave outrun vaporwave newwave synthpop darkwave chillwave electropop eighty italodisco"
        " electronica cyberpunk highway dashboard skyline arcadia"
    ),
    "lullaby": (
        "lullaby nursery cradle bedtime baby toddler infant child children kid kindergarten crib lullabye teddy nap"
        " sleepyhead"
    ),
    "dnb": "dnb jungle breakbeat breakcore neurofunk liquid drumandbass drumnbass junglist halftime",
    "reggae": (
        "reggae ska dub rocksteady dancehall rasta jamaican reggaeton ragga jamaica rastafari roots skank upstroke"
    ),
    "latin": (
        "latin salsa samba bossa bossanova tango flamenco rumba mambo cumbia merengue bachata mariachi bolero"
        " chacha cuba brazil spain habanera calypso latino latina son rio havana lisbon fiesta carioca buenos aires"
        " caribbean montuno"
    ),
    "funk": "funk soul motown gospel rnb groove boogie neosoul discofunk afrobeat afrobeats highlife wah",
    "piano": "piano pianoforte keyboard grand klavier pianist ivory harpsichord clavichord pianino",
    "epiano": "epiano rhodes wurlitzer wurli clavinet rhode",
    "vibraphone": (
        "vibraphone bell mallet chime vibraharp tubularbell carillon gong gamelan tingsha triangle handbell"
        " jinglebell ringing"
    ),
    "mbox": "musicbox glockenspiel celesta celeste toybox tinkle toypiano",
    "flute": (
        "flute recorder whistle woodwind clarinet piccolo oboe bassoon panflute pipe ocarina flautist pennywhistle"
        " wind shakuhachi fife bansuri dizi ney quena duduk bamboo whistling whistler birdsong bird xiao didgeridoo"
        " charanga reed harmonic"
    ),
    "violin": (
        "fiddle cello viola violinist cellist fiddler erhu sarangi kamancheh rebab nyckelharpa hurdygurdy theremin"
    ),
    "guitar": (
        "guitar ukulele banjo mandolin lute guitarist nylon sitar strum strumming picking fingerpicking fingerstyle"
        " dobro balalaika bouzouki zither oud charango guitarron tres shamisen pipa sarod cavaquinho slide twang"
        " raga arpeggione"
    ),
    "dist": "distortion riff powerchord shred shredding overdrive fuzz electricguitar",
    "synth": (
        "synth synthesizer synthesiser synthie moog analog analogue oscillator supersaw saw sawtooth modular keytar"
        " electronics juno"
    ),
    "arp": (
        "arp arpeggio arpeggiator sequence sequencer arpeggiation pluck ostinato sequencing glitter sparkle twinkle"
        " chiming"
    ),
    "chip": "bleep blip bloop beep squarewave pulsewave bitcrusher",
    "brass": (
        "brass trumpet trombone horn tuba frenchhorn cornet flugelhorn bugle fanfare brassband sousaphone trumpeter"
        " euphonium plunger cavalry regiment parade"
    ),
    "sax": "sax saxophone altosax tenorsax saxo",
    "choir": (
        "choir choral chorale chant vocal voice vocalist singer singing chorister monk aah ooh acapella hymn"
        " madrigal hymnal psalm barbershop doowop harmony chanting chanter chapel angel priest cathedral abbey"
        " monastery cloister church nun acappella cappella"
    ),
    "marimba": (
        "marimba kalimba xylophone steelpan steeldrum balafon mbira thumbpiano woodblock steelband hang handpan"
        " metallophone vibraslap tongue log"
    ),
    "organ": (
        "organ hammond accordion harmonica harmonium concertina squeezebox organist bandoneon bagpipe melodica"
        " calliope barrel bellows sheng crypt concertinas paris musette"
    ),
    "pad": "pad synthpad wash texture shimmer soundpad",
    "strings": (
        "string orchestralstring stringsection ensemble stringquartet pizzicato legato quartet tremolo spiccato"
    ),
    "harp": (
        "harp lyre harpist koto glissando kora dulcimer guzheng zheng guqin yangqin santoor qanun cimbalom gayageum"
    ),
    "bass": "bass bassline bassguitar bassist lowend slap ebass",
    "synthbass": "synthbass acidbass 303 reese moogbass wobble",
    "subbass": "subbass sub 808 subwoofer",
    "upright": "uprightbass doublebass contrabass standupbass",
    "drums": (
        "drum beat percussion drummer drumbeat drumming rhythm kick snare hat hihat cymbal tom backbeat break"
        " drumkit bongo conga tabla cajon tambourine percussionist clap handclap shaker bodhran djembe maraca"
        " cowbell kickdrum snaredrum fourfloor breakdown dhol timbale guiro surdo polyrhythm stomp clapping claps"
        " hammer gunshot timekeeper skin claves agogo"
    ),
    "electrokit": "drummachine 909 707 linndrum drumcomputer electrodrum",
    "acoustickit": "livedrum acousticdrum rockdrum",
    "softkit": "brush softdrum",
    "taiko": "taiko timpani wardrum kettledrum bigdrum epicdrum thunderdrum",
    "solo": "solo soloist",
    "dance": "dance dancefloor disco",
    "orchestra": "orchestra symphony",
    "dark": (
        "darkness horror halloween nightmare villain monster ghost demon shadow tension thriller suspense mystery"
        " doom dread terror zombie vampire witch haunt graveyard dungeon cave abyss danger murder crime noir evil"
        " hell storm thunder apocalypse dystopia wasteland menace stealth heist detective midnight fog tomb alien"
        " guard sneak spell stormcloud thunderstorm volcano lava mine goblin spider trap bunker maze ruin swamp"
        " curse skeleton tunnel sewer trench underworld conspiracy interrogation submarine clock tick mafia assassin"
        " infiltration infection outbreak cult ritual thief robber burglar killer prison jail prisoner fear scream"
        " blood bone raven crow wolf bat serpent snake hunter hunt corpse coffin morgue asylum attic cellar werewolf"
        " poltergeist exorcism plague poison knife shotgun betrayal revenge"
    ),
    "sad": (
        "sadness sorrow grief heartbreak melancholy tear longing nostalgia regret loss funeral goodbye farewell"
        " lament elegy tragedy loneliness solitude breakup memory mourning requiem despair autumn rain winter"
        " rainfall drizzle leaf friend ash wound exile orphan widow rejection leaves soldier grave tombstone"
        " homesickness refugee orphanage heartache hospice hangover emptiness ember"
    ),
    "happy": (
        "happiness joy fun smile party celebration birthday wedding summer beach picnic holiday sunshine laughter"
        " festival carnival vacation spring puppy cheer delight bliss circus cartoon comedy breakfast success win"
        " winner toy kitten mascot bubble friendly candy cupcake unboxing quiz clown shop store prize graduation"
        " reward pancake cooking recipe clumsiness monkey penguin show playground school kids balloon lollipop"
        " icecream trampoline juggler acrobat confetti fireworks playtime bunny hamster giraffe panda elf gnome"
        " leprechaun pinata barbecue barbeque bbq"
    ),
    "calm": (
        "calmness peace serenity relaxation tranquility spa yoga sleep rest ocean lake nature garden breeze breath"
        " stillness quietness sunset sunrise dawn morning evening forest wave stream river meadow massage zen coffee"
        " cafe library focus study studying reading healing hammock tea mountain menu field hotel call hold fishing"
        " farming puzzle loading pause countryside sunday sea water pond window shore cabin fireplace fire candle"
        " meal bath porch boat harbor harbour walk walking lantern temple tatami monday kitchen healer deer train"
        " balance island love wellness waiting reception background dinner growth dusk twilight afternoon noon"
        " weekend home cottage cat dog rabbit horse sheep cow duck goose fisherman grandfather grandmother mother"
        " father family book novel letter diary yarn shell stone pebble moss blossom petal flower rose lily tree oak"
        " pine grass path trail bench cliff bay cove reef bridge canal lighthouse bakery bistro sofa blanket pillow"
        " patient hospital nurse doctor clinic office classroom class teacher student pottery painting painter poem"
        " poet raindrop cloudburst mill orchard vineyard harvester lamp streetlamp door hall park pier turtle koi"
        " heron swan grandparent moonrise"
    ),
    "energetic": (
        "energy power workout gym sport race racing chase running fight battle action adrenaline training boxing"
        " aggression rage anger speed rush fury football explosion motorsport exercise rampage duel attack storming"
        " crowd highlight blast sprint gun tank jet rocket engine riot uprising drop stunt parkour skate climb squad"
        " mission combat speedrun wrestler warpath sports stampede rodeo circuit motivation panic exam hurry"
        " deadline skater roller surfer surfing truck car bike motorbike wheel derby sprinter marathon tournament"
        " basketball soccer hockey wrestling karate ninja gangster shootout ambush escape escapee pursuit chasing"
        " drag"
    ),
    "dreamy": (
        "dream space cosmos galaxy star moon heaven cloud fantasy wonder universe nebula planet night starlight"
        " aurora fairy magic mist haze floating moonlight snow snowfall trip journey mirage crystal ice echo"
        " exploration horizon mermaid dolphin orb portal hologram comet satellite orbit glacier tundra rainbow wing"
        " feather lagoon butterfly firefly wizard enchantment air light lights reverberation distance glow world map"
        " sky title reverb tale spaceship astronaut mars venus jupiter saturn telescope potion unicorn pegasus"
        " phoenix mirror snowflake jellyfish coral abysm constellation stardust supernova eclipse zodiac prism"
        " labyrinthine atlantis avalon"
    ),
    "epic": (
        "hero victory war triumph adventure legend glory quest warrior king kingdom empire castle knight dragon"
        " saga conquest voyage army champion viking pirate gladiator battlefield titan samurai tribe nation climax"
        " crescendo riser buildup crusade emperor pharaoh pyramid colosseum fleet ship sail sailing captain siege"
        " throne dwarf ancestor monument olympics flag honor honour boss build rome roman greece sparta troy queen"
        " prince princess banner ride horseback odyssey myth mythology prophecy destiny crown sword shield armor"
        " armour mountaineer summit peak eagle lion elephant dinosaur"
    ),
    "jingle": (
        "jingle sting stinger ident logo notification ringtone announcement alert bumper alarm countdown outro signoff"
    ),
    "drone": "drone overtone hum om tanpura shruti undertone mantra tone",
    "electronic": (
        "city town downtown metropolis technology tech circuitry computer software data network internet server"
        " android cyborg ai gadget hacker"
    ),
    "acoustic": "trio duo duet",
}

# Other words, by concept.
OTHERS = {
    "ambient": "atmospheric meditative spacious droning oceanic zenlike contemplative newagey ambiental",
    "techno": "ravey clubby mechanical metallic squelchy industrial robotized",
    "jazz": "jazzy swinging bluesy swingy smoky sultry muted swung noirish",
    "classical": (
        "mozartian orchestrated romantic elegant courtly impressionist stately aristocratic refined viennese"
    ),
    "rock": "rocking rocky grungy punky",
    "folk": (
        "folky folksy rustic rural irish scottish countryside pastoral appalachian celtic medieval hawaiian andean"
        " nordic scandinavian balkan gaelic welsh traditional tribal"
    ),
    "chiptune": "8bit 16bit 8bits retrogame pixelated chippy",
    "cinematic": "filmic theatrical movielike underscored panoramic",
    "hiphop": "urban rapping",
    "pop": "poppy mainstream catchy radiofriendly modern corporate fresh stylish trendy",
    "synthwave": "80s 1980s eighties retrofuturistic neon miami vhs retro italo",
    "latin": "brazilian cuban spanish mexican hispanic argentinian tropical caribbean portuguese flamencoish",
    "funk": "funky soulful groovy 70s 1970s groovin grooving seventies",
    "reggae": "reggaelike",
    "calm": (
        "calming peaceful peacefully relaxing relaxed relax relaxingly gentle gently soft softly soothing quiet"
        " quietly tranquil mellow serene serenely chill chilled restful light lightly delicate delicately sleepy"
        " breezy tender tenderly warm warmly easygoing laidback smooth smoothly subtle understated unhurried"
        " comforting cozy cosy still minimal minimalist minimalistic sparse sparsely hushed subdued placid intimate"
        " balmy lazy unwinding meditational pianissimo sweet sweetly lulling pleasant bland clean green muffled"
        " slumbering dusty distant small silent pastel slowed sleeping velvety creamy simple repeating repetitive"
        " resonant minimalism echoing waiting deep"
    ),
    "happy": (
        "happily cheerful cheerfully joyful joyous upbeat bright brightly uplifting playful playfully sunny"
        " positive feelgood optimistic lively cheery bouncy cute funny quirky festive merry jolly jovial"
        " lighthearted carefree hopeful gleeful exuberant whimsical ecstatic giddy perky zippy radiant blissful"
        " delightful bubbly jaunty sparkling rejoicing heartwarming zany goofy silly comical jubilant buoyant"
        " sprightly enthusiastic charming elated euphoric bubbling clumsy winning rowdy skipping friendly glittering"
        " rubbery whistled comic twangy wacky sparkly"
    ),
    "dark": (
        "ominous mysterious tense spooky scary brooding eerie gloomy suspenseful sinister menacing haunting haunted"
        " creepy mystical darker darkest grim unsettling disturbing foreboding gothic bleak shadowy dystopian"
        " threatening nightmarish macabre cold murky occult frightening apocalyptic uneasy dissonant moody twisted"
        " demonic hellish deadly secretive stealthy harrowing nervous anxious paranoid stormy sneaky sneaking"
        " ticking strange alien ancient undead sinking murmuring claustrophobic industrialized echoey egyptian"
        " arabic persian arabian monstrous creeping suspended lurking underground"
    ),
    "sad": (
        "sadly melancholic emotional emotionally lonely nostalgic somber sombre bittersweet sorrowful reflective"
        " wistful heartbreaking depressing depressed tragic touching mournful poignant yearning pensive plaintive"
        " downcast heartfelt introspective grieving forlorn rainy weeping tearful desolate melancholically"
        " sentimental regretful hurt broken aching doleful dejected unhappy crying wintry autumnal lost longing"
        " homesick lamenting losing abandoned rueful mournfully teary longingly"
    ),
    "energetic": (
        "energetically driving powerful powerfully intense intensely exciting pumping aggressive hard dynamic"
        " hardhitting wild heavy loud strong explosive frantic banging pounding relentless furious highenergy punchy"
        " thumping fierce adrenalized electrifying rousing motivating motivational vigorous stomping raging hectic"
        " ferocious brutal angry thrilling chaotic manic pulsating pulsing throbbing hyper energizing energising"
        " spirited fiery racy headbanging turbo bombing blazing kinetic raw crushing busy massive rebellious crowded"
        " competitive roaring smashing hammering skanking urgent fighting sliding rattling hurtling attacking"
    ),
    "dreamy": (
        "dreamily hypnotic ethereal lush hazy airy magical cosmic surreal psychedelic trippy shimmering celestial"
        " otherworldly floaty weightless enchanting enchanted mesmerizing mesmerising spacey heavenly angelic"
        " reverberant glowing gauzy sublime transcendent spiritual sacred mystic iridescent blurry drifting astral"
        " interstellar galactic starry dreamlike nocturnal underwater hallucinatory infinite wondrous reverby snowy"
        " icy elven crystalline spatial glassy vast white soaking watery impressionistic misty foggy wide"
    ),
    "epic": (
        "heroic heroically dramatic dramatically triumphant grandiose majestic adventurous inspiring inspirational"
        " monumental anthemic victorious noble glorious mighty soaring stirring bombastic regal royal legendary"
        " colossal gigantic towering sweeping thunderous brave courageous ceremonial proud imposing huge national"
        " rising marching dwarven sailing olympic grand progressive viking building imperial"
    ),
    "slow": (
        "slowly slower downtempo adagio lento largo unhurriedly lethargic sluggish slowest dragging andante"
        " lentissimo slowcore crawling plodding leisurely larghetto adagietto slowpaced winding slowing lazily"
    ),
    "medium": "moderate moderately midtempo moderato steady",
    "fast": (
        "quick quickly faster rapid rapidly uptempo fastpaced allegro presto vivace brisk speedy hurried swift"
        " breakneck fastest prestissimo galloping swiftly quicker accelerated briskly allegretto hasty"
    ),
    "major": "maj dur",
    "minor": "min moll aeolian",
    "electronic": (
        "electronically electric digital computerized technological futuristic synthetic robotic programmed cyber"
        " scifi synthesized synthesised chrome glitchy mobile binary"
    ),
    "acoustic": "acoustically unplugged organic woody earthy natural bamboo wooden handmade",
    "piano": "keys ivories",
    "solo": "lone alone unaccompanied",
    "strings": "bowed violins cellos violas",
    "drums": "percussive rhythmic rhythmical clapped stomped polyrhythmic",
    "softkit": "brushed",
    "dist": "distorted overdriven crunchy fuzzy shredded djent",
    "synth": "synthy synthlike",
    "arp": "arpeggiated plucky sequenced arpeggiating plinky",
    "chip": "bleepy",
    "choir": "sung choral wordless",
    "brass": "brassy",
    "bass": "bassy",
    "dance": "danceable dancing",
    "orchestra": "orchestral symphonic philharmonic",
    "house": "skippy glamorous",
    "drone": "overtoned droney humming binaural",
    "violin": "fiddled",
    "harp": "japanese chinese oriental asian",
    "guitar": "indian hindustani",
    "marimba": "african balinese ghanaian",
}


def forms() -> dict[str, str]:
    """Return the concept of each word. The names of the concepts are words, too."""
    meaning = {concept: concept for concept in CONCEPTS}
    for table, plural in ((OTHERS, False), (NOUNS, True)):
        for concept, words in table.items():
            for word in words.split():
                meaning.setdefault(word, concept)
                if plural:
                    meaning.setdefault(_plural(word), concept)
    return meaning


def _plural(noun: str) -> str:
    if noun.endswith(("s", "x", "ch", "sh", "z")):
        return f"{noun}es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}s"
