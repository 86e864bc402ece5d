"""
The vocabulary: which words and phrases of a prompt stand for which concepts. The model knows concepts alone.

All words of a concept have the same embedding, so synonyms give exactly the same result: `gloomy` and `dark`, for
example. Phrases are replaced before words are looked up. Other words are ignored. Names of artists are left out on
purpose.
"""

from __future__ import annotations

from training.nano.keys import KEYS
from training.nano.plan import ABSENT, INSTRUMENTS, KITS, UNKNOWN
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
    *(f"no_{name}" for name in ABSENT),
    *TEMPI,
    *(f"key_{number}" for number in range(len(KEYS))),
)

# Nouns, by concept; their plurals are derived.
NOUNS = {
    "ambient": "ambient ambience soundscape drone atmosphere soundbath noise meditation mindfulness newage",
    "techno": (
        "techno trance rave hardstyle psytrance goa eurodance gabber hardtek tekno industrial schranz acid warehouse"
    ),
    "house": "house electro edm nightclub club clubbing garage eurohouse",
    "lofi": "lofi chillhop chillout studybeat lowfi jazzhop",
    "jazz": "jazz swing bebop bop lounge blue ragtime dixieland bigband hardbop cooljazz nightcap speakeasy",
    "classical": (
        "classic classical baroque sonata waltz minuet nocturne etude prelude concerto fugue rondo serenade mazurka"
        " bagatelle gavotte chamber opera aria intermezzo impromptu symphonietta renaissance romanticism partita"
        " scherzo divertimento toccata canon capriccio arabesque rhapsody bourree sarabande gigue allemande"
    ),
    "rock": "rock grunge punk rocker garagerock indierock britpop rockabilly emo rocknroll postrock stoner shoegaze",
    "folk": (
        "folk country americana bluegrass celtic campfire songwriter ballad shanty polka hoedown tavern bard"
        " troubadour honkytonk jig reel medieval hillbilly cowboy farm prairie"
    ),
    "chiptune": (
        "chiptune arcade nes gameboy famicom sega console platformer videogame chipmusic pixel eightbit sixteenbit"
        " c64 commodore atari amiga snes jrpg rpg"
    ),
    "cinematic": (
        "cinematic soundtrack trailer film movie cinema score filmscore blockbuster documentary teaser ost moviescore"
        " overture scene"
    ),
    "hiphop": "hiphop rap rapper boombap beatmaker freestyle triphop cypher",
    "pop": (
        "pop kpop jpop jingle commercial advert advertisement hit chart popsong indie indiepop corporate radio promo"
        " vlog bubblegum anthem"
    ),
    "synthwave": (
        "synthwave retrowave outrun vaporwave newwave synthpop darkwave chillwave electropop eighty italodisco"
        " electronica cyberpunk"
    ),
    "lullaby": "lullaby nursery cradle bedtime baby toddler infant child children kid kindergarten crib lullabye",
    "dnb": "dnb jungle breakbeat breakcore neurofunk liquid drumandbass drumnbass junglist halftime",
    "reggae": "reggae ska dub rocksteady dancehall rasta jamaican reggaeton ragga jamaica rastafari roots",
    "latin": (
        "latin salsa samba bossa bossanova tango flamenco rumba mambo cumbia merengue bachata mariachi bolero chacha"
        " cuba brazil spain habanera calypso latino latina son"
    ),
    "funk": "funk soul motown gospel rnb groove boogie neosoul discofunk",
    "piano": "piano pianoforte keyboard grand klavier pianist ivory harpsichord clavichord pianino",
    "epiano": "epiano rhodes wurlitzer wurli clavinet rhode",
    "vibraphone": "vibraphone bell mallet chime vibraharp tubularbell carillon",
    "mbox": "musicbox glockenspiel celesta celeste toybox tinkle toypiano",
    "flute": (
        "flute recorder whistle woodwind clarinet piccolo oboe bassoon panflute pipe ocarina flautist pennywhistle"
        " wind shakuhachi fife"
    ),
    "violin": "violin fiddle cello viola violinist cellist fiddler",
    "guitar": (
        "guitar ukulele banjo mandolin lute guitarist nylon sitar strum strumming picking fingerpicking fingerstyle"
        " dobro balalaika bouzouki zither oud"
    ),
    "dist": "distortion riff powerchord shred shredding overdrive fuzz electricguitar",
    "synth": (
        "synth synthesizer synthesiser synthie moog analog analogue oscillator supersaw saw sawtooth modular keytar"
        " electronics juno"
    ),
    "arp": "arp arpeggio arpeggiator sequence sequencer arpeggiation pluck ostinato sequencing",
    "chip": "bleep blip bloop beep squarewave pulsewave bitcrusher",
    "brass": (
        "brass trumpet trombone horn tuba frenchhorn cornet flugelhorn bugle fanfare brassband sousaphone trumpeter"
    ),
    "sax": "sax saxophone saxophonist altosax tenorsax saxo",
    "choir": (
        "choir choral chorale chant vocal voice vocalist singer singing chorister monk aah ooh acapella hymn madrigal"
    ),
    "marimba": "marimba kalimba xylophone steelpan steeldrum balafon mbira thumbpiano woodblock steelband",
    "organ": "organ hammond accordion harmonica harmonium concertina squeezebox organist bandoneon bagpipe melodica",
    "pad": "pad synthpad wash texture shimmer soundpad",
    "strings": "string orchestralstring stringsection ensemble stringquartet",
    "harp": "harp lyre harpist koto glissando kora dulcimer",
    "bass": "bass bassline bassguitar bassist lowend slap ebass",
    "synthbass": "synthbass acidbass 303 reese moogbass wobble",
    "subbass": "subbass sub 808 subwoofer",
    "upright": "uprightbass doublebass contrabass standupbass",
    "drums": (
        "drum beat percussion drummer drumbeat drumming rhythm kick snare hat hihat cymbal tom backbeat break drumkit"
        " bongo conga tabla cajon tambourine percussionist clap handclap shaker bodhran djembe maraca cowbell kickdrum"
        " snaredrum fourfloor breakdown"
    ),
    "electrokit": "drummachine 909 707 linndrum drumcomputer electrodrum",
    "acoustickit": "livedrum acousticdrum rockdrum",
    "softkit": "brush softdrum",
    "taiko": "taiko timpani wardrum kettledrum bigdrum epicdrum",
    "solo": "solo soloist",
    "dance": "dance dancefloor disco",
    "orchestra": "orchestra symphony",
    "dark": (
        "darkness horror halloween nightmare villain monster ghost demon shadow tension thriller suspense mystery"
        " doom dread terror zombie vampire witch haunt graveyard crypt dungeon cave abyss danger murder crime noir"
        " evil hell storm thunder apocalypse dystopia wasteland menace stealth heist detective"
    ),
    "sad": (
        "sadness sorrow grief heartbreak melancholy tear longing nostalgia regret loss funeral goodbye farewell"
        " lament elegy tragedy loneliness solitude breakup memory mourning requiem despair autumn rain winter rainfall"
        " drizzle"
    ),
    "happy": (
        "happiness joy fun smile party celebration birthday wedding summer beach picnic holiday sunshine laughter"
        " festival carnival vacation spring puppy parade cheer delight bliss circus cartoon comedy breakfast success"
    ),
    "calm": (
        "calmness peace serenity relaxation tranquility spa yoga sleep rest ocean lake nature garden breeze breath"
        " stillness quietness sunset sunrise dawn morning evening forest wave stream river meadow massage zen coffee"
        " cafe library focus study studying reading healing hammock tea mountain"
    ),
    "energetic": (
        "energy power workout gym sport race racing chase running fight battle action adrenaline training boxing"
        " aggression rage anger speed rush fury football explosion motorsport boss exercise rampage"
    ),
    "dreamy": (
        "dream space cosmos galaxy star moon heaven cloud fantasy wonder universe nebula planet night starlight"
        " aurora fairy magic mist haze fog floating moonlight snow snowfall trip journey mirage"
    ),
    "epic": (
        "hero victory war triumph adventure legend glory quest warrior king kingdom empire castle knight dragon saga"
        " conquest voyage army champion viking pirate gladiator battlefield titan"
    ),
}

# Other words, by concept.
OTHERS = {
    "ambient": "atmospheric meditative spacious droning oceanic zenlike contemplative newagey ambiental",
    "techno": "ravey clubby",
    "jazz": "jazzy swinging bluesy swingy",
    "classical": "mozartian orchestrated",
    "rock": "rocking rocky grungy punky",
    "folk": "folky folksy rustic rural irish scottish countryside pastoral appalachian",
    "chiptune": "8bit 16bit 8bits retrogame pixelated chippy",
    "cinematic": "filmic theatrical movielike",
    "hiphop": "urban rapping",
    "pop": "poppy mainstream catchy radiofriendly",
    "synthwave": "80s 1980s eighties retrofuturistic neon miami vhs retro",
    "latin": "brazilian cuban spanish mexican hispanic argentinian tropical caribbean",
    "funk": "funky soulful groovy 70s 1970s groovin grooving seventies",
    "reggae": "reggaelike",
    "calm": (
        "calm calming peaceful peacefully relaxing relaxed relax relaxingly gentle gently soft softly soothing quiet"
        " quietly tranquil mellow serene serenely chill chilled restful light lightly delicate delicately sleepy"
        " breezy tender tenderly warm warmly easygoing laidback smooth smoothly subtle understated unhurried"
        " comforting cozy cosy still minimal minimalist minimalistic sparse sparsely hushed subdued placid intimate"
        " balmy lazy unwinding meditational pianissimo sweet sweetly lulling"
    ),
    "happy": (
        "happy happily cheerful cheerfully joyful joyous upbeat bright brightly uplifting playful playfully sunny"
        " positive feelgood optimistic lively cheery bouncy cute funny quirky festive merry jolly jovial lighthearted"
        " carefree hopeful gleeful exuberant whimsical ecstatic giddy perky zippy radiant blissful delightful bubbly"
        " jaunty sparkling rejoicing heartwarming zany goofy silly comical jubilant buoyant sprightly enthusiastic"
        " charming elated euphoric"
    ),
    "dark": (
        "dark ominous mysterious tense spooky scary brooding eerie gloomy suspenseful sinister menacing haunting"
        " haunted creepy mystical darker darkest grim unsettling disturbing foreboding gothic bleak shadowy dystopian"
        " threatening nightmarish macabre cold murky occult frightening apocalyptic uneasy dissonant noirish moody"
        " twisted demonic hellish deadly secretive stealthy harrowing nervous anxious paranoid"
    ),
    "sad": (
        "sad sadly melancholic emotional emotionally lonely nostalgic somber sombre bittersweet sorrowful reflective"
        " wistful heartbreaking depressing depressed tragic touching mournful poignant yearning pensive plaintive"
        " downcast heartfelt introspective grieving forlorn rainy weeping tearful desolate melancholically sentimental"
        " regretful hurt broken aching doleful dejected unhappy crying wintry autumnal"
    ),
    "energetic": (
        "energetic energetically driving powerful powerfully intense intensely exciting pumping aggressive hard"
        " dynamic hardhitting wild heavy loud strong explosive frantic banging pounding relentless furious highenergy"
        " punchy thumping fierce adrenalized electrifying rousing motivating motivational vigorous stomping raging"
        " hectic ferocious brutal angry thrilling chaotic manic pulsating pulsing throbbing hyper energizing"
        " energising spirited fiery racy headbanging turbo bombing blazing kinetic rowdy raw"
    ),
    "dreamy": (
        "dreamy dreamily hypnotic ethereal lush hazy airy magical cosmic surreal psychedelic trippy shimmering"
        " celestial otherworldly floaty weightless enchanting enchanted mesmerizing mesmerising spacey heavenly"
        " angelic reverberant glowing gauzy sublime transcendent spiritual sacred mystic iridescent blurry drifting"
        " astral interstellar galactic starry dreamlike nocturnal underwater hallucinatory infinite wondrous reverby"
    ),
    "epic": (
        "epic heroic heroically dramatic dramatically triumphant grandiose majestic adventurous inspiring"
        " inspirational monumental anthemic victorious noble glorious mighty soaring stirring bombastic regal royal"
        " legendary colossal gigantic massive towering sweeping thunderous brave courageous ceremonial proud imposing"
    ),
    "slow": (
        "slow slowly slower slowed downtempo adagio lento largo unhurriedly lethargic sluggish slowest dragging"
        " andante lentissimo slowcore crawling plodding leisurely larghetto adagietto slowpaced"
    ),
    "medium": "medium moderate moderately midtempo moderato steady",
    "fast": (
        "fast quick quickly faster rapid rapidly uptempo fastpaced allegro presto vivace brisk speedy hurried swift"
        " breakneck fastest prestissimo galloping swiftly quicker accelerated briskly allegretto hasty"
    ),
    "major": "major maj dur",
    "minor": "minor min moll aeolian",
    "electronic": (
        "electronic electronically electric digital computerized technological futuristic synthetic robotic"
        " programmed cyber scifi synthesized synthesised"
    ),
    "acoustic": "acoustic acoustically unplugged organic woody earthy natural",
    "piano": "keys ivories",
    "solo": "lone alone unaccompanied",
    "strings": "strings bowed violins cellos violas",
    "drums": "percussive rhythmic rhythmical",
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
}

# Phrases of several words, and words for several concepts, as regular expressions. They are replaced in this order, so
# a phrase comes before those that it contains.
PHRASES: tuple[tuple[str, str], ...] = (
    ("drums? (?:and|n) ?bass|d ?(?:and|n) ?b|drum ?n ?bass", "dnb"),
    ("liquid funk|liquid dnb", "dnb dreamy"),
    ("dubstep|brostep|riddim", "dnb dark synthbass"),
    ("lo ?fi hip ?hop|lo fi|low fi|chill hop|chill beats?|study beats?", "lofi"),
    ("jazz ?hop", "lofi jazz"),
    ("trip hop", "hiphop dreamy"),
    ("trap|drill|phonk|gangsta rap|grime", "hiphop dark"),
    ("hip hop|boom bap|old school rap|rap beats?", "hiphop"),
    ("r and b|r n b|rhythm and blues|neo soul|nu soul", "funk calm"),
    ("disco|nu disco", "funk dance happy"),
    ("rock (?:and|n) roll|rock ?n ?roll", "rock happy"),
    (
        "(?:heavy|death|black|thrash|power|doom|speed|nu) metal|metal(?:core)?|hardcore punk|djent",
        "rock dist energetic",
    ),
    ("punk rock|pop punk|skate punk", "rock dist fast"),
    ("classic rock", "rock"),
    ("post rock", "rock dreamy"),
    ("soft rock|yacht rock", "rock calm"),
    ("indie folk|folk rock", "folk"),
    ("country and western|wild west|spaghetti western|western", "folk guitar"),
    ("(?:sea|pirate) shanty", "folk happy"),
    ("bossa nova", "latin calm"),
    ("(?:smooth|cool|lounge|dinner|coffee ?shop) jazz", "jazz calm"),
    ("big band", "jazz brass"),
    ("gypsy jazz|delta blues|blues rock|(?:12|twelve) bar blues", "jazz guitar"),
    ("(?:deep|tropical|chill) house", "house calm"),
    ("(?:acid|electro|future|progressive|tech) house", "house"),
    ("(?:psy|goa|uplifting|vocal)? ?trance", "techno dreamy fast"),
    ("hard ?style|hard techno|hard ?core", "techno energetic fast"),
    ("euro ?beat|euro ?dance|happy hardcore", "techno happy fast"),
    ("(?:minimal|dub) techno", "techno"),
    ("new age|sound bath", "ambient calm"),
    ("sound scape", "ambient"),
    ("dark ambient|drone music", "ambient dark"),
    ("space music|space ambient", "ambient dreamy"),
    (
        "video ?game music|video ?game|retro game|chip ?tune|8 ?bit|16 ?bit|eight bit|game ?boy|old school game",
        "chiptune",
    ),
    ("boss (?:fight|battle)", "energetic dark"),
    ("(?:film|movie) (?:score|music|soundtrack|trailer)", "cinematic"),
    ("string quartet|chamber music|string trio", "classical strings"),
    ("symphon(?:y|ic) orchestra|full orchestra|orchestral score", "cinematic orchestra strings"),
    ("80s rock|eighties rock|rock opera", "rock"),
    ("80s (?:synth|pop)|eighties pop|synth ?pop|new wave|retro ?wave|synth ?wave|vapor ?wave|dark ?synth", "synthwave"),
    ("(?:80s|1980s|eighties) synthwave", "synthwave"),
    ("singer songwriter|coffee ?house", "folk calm"),
    ("k pop|j pop|dance pop|electro ?pop|bubblegum pop", "pop"),
    ("cyber ?punk|blade ?runner", "synthwave dark"),
    ("high energy|hard hitting|in your face|adrenaline fueled|full of energy", "energetic"),
    ("feel good|good vibes|good mood", "happy"),
    ("laid back|easy going|easy listening|low key|winding down", "calm"),
    ("fast paced|high tempo|up tempo|quick tempo|high speed|very fast|double time", "fast"),
    ("slow paced|low tempo|down tempo|very slow|half time|slow tempo|takes its time", "slow"),
    ("mid tempo|medium tempo|moderate tempo|medium pace|not too fast", "medium"),
    ("(?:four|4) (?:on|to) the floor|4 4 beat", "drums"),
    ("drum (?:machines?|computer|programming)|electronic (?:drums?|beats?|percussion)|programmed drums", "electrokit"),
    ("gated (?:drums?|snares?|reverb drums?)|(?:808|909|synth) drums?", "electrokit"),
    ("(?:live|acoustic|real|rock) drums?|(?:acoustic )?drum (?:kits?|sets?)", "acoustickit"),
    ("(?:soft|mellow|dusty|brushed|gentle|lofi) (?:drums?|beats?|percussion)|vinyl crackle|with brushes", "softkit"),
    ("(?:taiko|war|big|epic|thunderous|tribal|booming|orchestral) (?:drums?|percussion)", "taiko"),
    ("hand ?claps?|hi ?hats?|kick drums?|snare drums?|drum (?:beats?|fills?|loops?|breaks?)", "drums"),
    ("music box(?:es)?|toy piano|glocken ?spiel", "mbox"),
    ("(?:electric|e|rhodes|wurlitzer) pianos?|fender rhodes|rhodes keys", "epiano"),
    ("(?:grand|upright|felt|acoustic|honky tonk) pianos?|piano (?:keys|chords|melody)", "piano"),
    ("(?:tubular|church|sleigh) bells?|wind chimes?", "vibraphone"),
    ("pan (?:flute|pipe)s?|tin whistles?|wood ?winds?", "flute"),
    (
        "(?:distorted|electric|heavy|lead|metal|crunchy|fuzzy?|overdriven|rock) guitars?|power chords?|guitar riffs?",
        "dist",
    ),
    ("(?:acoustic|nylon|classical|spanish|finger ?picked|steel string|clean) guitars?", "guitar"),
    ("acid (?:bass(?:line)?|line)|synth bass(?:line)?s?|moog bass|wobble bass|reese bass", "synthbass"),
    ("sub bass(?:es)?|808 bass|808s?|deep bass", "subbass"),
    ("(?:upright|double|stand ?up|acoustic|walking) bass(?:es|line)?", "upright"),
    ("bass guitars?|electric bass(?:es)?|slap bass|bass ?lines?", "bass"),
    ("square (?:waves?|lead)|pulse waves?|chip (?:sounds?|lead|melody)", "chip"),
    ("french horns?|brass (?:section|band)|horn section", "brass"),
    ("(?:alto|tenor|soprano|baritone) sax(?:ophone)?s?", "sax"),
    ("choral voices?|(?:backing|female|male) vocals?|gregorian chants?|vocal pads?|choir pads?", "choir"),
    ("steel (?:drums?|pans?)|thumb piano", "marimba"),
    ("(?:church|pipe|hammond) organ", "organ"),
    ("(?:synth|warm|soft|ambient|lush|airy|evolving|string) pads?|synth (?:washes|textures|strings)", "pad"),
    ("string (?:section|ensemble|orchestra|arrangement)s?|orchestral strings?", "strings"),
    ("synth (?:leads?|lines?|melod(?:y|ies))|lead synths?|analog(?:ue)? synths?", "synth"),
    ("synth (?:arps?|arpeggios?|plucks?|sequences?)|arpeggiated synths?|plucked synths?", "arp"),
    ("piano +arpeggios?|arpeggiated pianos?", "piano"),
    ("guitar +arpeggios?|arpeggiated guitars?", "guitar"),
    ("harp +arpeggios?|arpeggiated harps?", "harp"),
    ("minor (?:key|scale|chords?|mode|harmony)|sad key", "minor"),
    ("major (?:key|scale|chords?|mode|harmony)|happy key", "major"),
    ("solos?(?= (?:over|above|on top|and|with))", ""),
    ("all alone|by itself|on its own|nothing else|just an?|only an?", "solo"),
    ("a ?capella", "choir no_drums"),
    ("sci fi|science fiction|outer space", "dreamy electronic"),
    ("night ?drive|city at night", "synthwave"),
    ("rainy (?:day|night)", "calm sad"),
    ("good ?night|bed ?time|fall(?:ing)? asleep", "lullaby calm"),
    ("christmas|xmas", "vibraphone happy"),
    ("drumless|beatless|percussionless|(?:drum|percussion|beat) free", "no_drums"),
    ("bassless", "no_bass"),
)

NEGATION = (
    "without(?: any)?|with no|w/o|minus|excluding|lacking|free of|sans"
    "|(?:dont|do not) (?:use|include|add|want)(?: any)?"
    "|except(?: for)?|instead of|rather than|(?:there )?(?:are|is) no|not any|zero|leave out|avoid"
)
# Words that may stand between `no` and what is unwanted.
BETWEEN = "the|any|a|an|heavy|loud|hard|big|live|real|electric|electronic|acoustic|lead|kind of|sort of|type of|more"


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
