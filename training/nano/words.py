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
        " reiki whale room airport vastness noisescape himalaya plateau steppe void nothingness wilderness hush haven"
        " sanctuary retreat monsoon tibet monolith blizzard fjord drift vapor vapour sauna sonar whisper hiss aquarium"
        " emptyspace"
    ),
    "techno": (
        "techno trance rave hardstyle psytrance goa eurodance gabber hardtek tekno industrial schranz acid warehouse"
        " robot factory machine strobe bassdrop laser berlin detroit conveyor piston turbine generator reactor"
        " forklift treadmill bunkerclub subway metro tube pulsar dancer modulator steampunk machinery hydraulics drill"
    ),
    "house": (
        "house electro edm nightclub club clubbing garage eurohouse runway catwalk rooftop fashion amapiano poolside"
        " mall ibiza dj yacht penthouse cocktail terrace swimsuit filter sidechain afterparty poolparty model glamour"
    ),
    "lofi": (
        "lofi chillhop chillout studybeat lowfi jazzhop coding programming cassette vinyl crackle tape walkman"
        " bedroom dorm desk homework notebook vintage gramophone phonograph crackling mug blog demo cheap mixtape"
        " playlist"
    ),
    "jazz": (
        "jazz swing bebop bop lounge blue ragtime dixieland bigband hardbop cooljazz nightcap speakeasy cabaret"
        " saloon martini lobby elevator spy orleans prohibition improvisation improv restaurant saxophonist crooner"
        " sommelier shuffle scat quintet sextet vamp lick cigar whisky whiskey bourbon casino bartender harlem chicago"
        " gatsby charleston gentleman fingersnap snap snapping sophisticate fedora"
    ),
    "classical": (
        "classic classical baroque sonata waltz minuet nocturne etude prelude concerto fugue rondo serenade mazurka"
        " bagatelle gavotte chamber opera aria intermezzo impromptu symphonietta renaissance romanticism partita"
        " scherzo divertimento toccata canon capriccio arabesque rhapsody bourree sarabande gigue allemande ballroom"
        " suite aristocrat palace salon ballet march palazzo museum gallery vienna court ball duchess duke baron"
        " countess carriage chandelier counterpoint cadence coda interlude arco movement conservatory composer"
        " ballerina soiree opus theatre theater libretto nobleman versailles victorian etiquette chess venice florence"
        " milan lace wig powdered"
    ),
    "rock": (
        "rock grunge punk rocker garagerock indierock britpop rockabilly emo rocknroll postrock stoner shoegaze"
        " stadium arena biker motorcycle surf basement guitarsolo woodstock leather jacket drumstick amplifier amp"
        " mosh headbanger roadie british sixties 60s band"
    ),
    "folk": (
        "folk country americana bluegrass celtic campfire songwriter ballad shanty polka hoedown bard troubadour"
        " honkytonk jig reel medieval hillbilly cowboy farm prairie village tavern road inn pub barn valley hill"
        " homestead harvest peasant highland fado klezmer moor market blacksmith miller shepherd wagon creek ranch"
        " horseman bonfire lumberjack fiddlehead chanson kettle sheepdog dairy blossoming cornfield quilt whittling"
        " banjoist yodel lederhosen oktoberfest bavaria alps appalachia kentucky tennessee texas nashville prospector"
        " trapper stagecoach tumbleweed saddle lasso ballade minstrel jester feast banquet ale mead goblet squire"
        " gypsy russia ukraine poland hungary romania serbia bulgaria turkey ireland scotland wales england brittany"
        " galicia musician busker crossroads railroad railway hobo rail boxcar freight bazaar souk stall"
    ),
    "chiptune": (
        "chiptune arcade nes gameboy famicom sega console platformer videogame chipmusic pixel eightbit sixteenbit"
        " c64 commodore atari amiga snes jrpg rpg pixels minigame joystick cartridge sprite powerup highscore cheat"
        " coin gem powerpellet invader tetris handheld cart emulator eightbitdo spriteset gamer games demoscene"
    ),
    "cinematic": (
        "cinematic soundtrack trailer film movie cinema score filmscore blockbuster documentary teaser ost moviescore"
        " overture cutscene scene credit news newscast broadcast headline drama montage underscore vista landscape"
        " savanna history biopic prologue epilogue finale canyon opening ceremony montages story narration lapse"
        " voiceover chapter episode screenplay director premiere cinematographer camera screen epicness recap"
        " flashback timelapse aerial flyover panorama plains trek journal witness discovery invention science"
        " scientist laboratory lab archive ticker anchorman reporter press politics election debate hollywood oscar"
        " biography sequel trilogy plot backdrop storyline segment bulletin anchor company business industry"
        " enterprise corporation finance economy investment government parliament senate congress policy report"
        " weather forecast"
    ),
    "hiphop": (
        "hiphop rap rapper boombap beatmaker freestyle triphop cypher street hood graffiti skateboard beatbox"
        " beatboxing beatboxer turntable scratch mc beatmaking emcee brooklyn bronx compton gangsta sampler boom"
        " breakdancer breakdance swagger hoodie hustler cash dollar bling block lowrider swag"
    ),
    "pop": (
        "pop kpop jpop commercial advert advertisement hit chart popsong indie indiepop corporate radio promo vlog"
        " bubblegum anthem podcast video youtube vlogger tutorial presentation startup launch brand showroom estate"
        " phone mobile teen prom chorus shopping smartphone influencer selfie boutique refrain autotune idol boyband"
        " girlband singalong concert hashtag app product sale webinar interview vlogging explainer onboarding"
        " conference keynote meeting ad crush date romance summerhit channel streaming livestream streamer gaming"
        " luxury magazine cover makeup jewelry jewellery"
    ),
    "synthwave": (
        "synthwave retrowave outrun vaporwave newwave synthpop darkwave chillwave electropop eighty italodisco"
        " electronica cyberpunk highway dashboard skyline arcadia delorean ferrari camaro grid gridline palm palmtree"
        " sunsetstrip malibu vice cop"
    ),
    "lullaby": (
        "lullaby nursery cradle bedtime baby toddler infant child children kid kindergarten crib lullabye teddy nap"
        " sleepyhead pajama pyjama stork pram stroller goodnight yawn dreamland cuddle"
    ),
    "dnb": "dnb jungle breakbeat breakcore neurofunk liquid drumandbass drumnbass junglist halftime amen",
    "reggae": (
        "reggae ska dub rocksteady dancehall rasta jamaican reggaeton ragga jamaica rastafari roots skank upstroke"
        " offbeat kingston marley coconut dubby"
    ),
    "latin": (
        "latin salsa samba bossa bossanova tango flamenco rumba mambo cumbia merengue bachata mariachi bolero chacha"
        " cuba brazil spain habanera calypso latino latina son rio havana lisbon fiesta carioca buenos aires caribbean"
        " montuno cigarillo cruise resort bikini pineapple mojito margarita tequila taco siesta hacienda peru bolivia"
        " chile colombia venezuela argentina mexico puerto rico dominican haiti hawaii luau hula bahamas barbados"
        " trinidad tahiti polynesia samoa fiji flamingo parrot toucan rainforest amazon paradise oasis"
    ),
    "funk": (
        "funk soul motown gospel rnb groove boogie neosoul discofunk afrobeat afrobeats highlife wah bootsy clavi"
        " strut strutting afro syncopation pimp rollerskate sneaker nigeria ghana lagos"
    ),
    "piano": (
        "piano pianoforte keyboard grand klavier pianist ivory harpsichord clavichord pianino pedal chopin debussy"
        " satie"
    ),
    "epiano": "epiano rhodes wurlitzer wurli clavinet rhode",
    "vibraphone": (
        "vibraphone bell mallet chime vibraharp tubularbell carillon gong gamelan tingsha triangle handbell"
        " jinglebell ringing tubular windchime clockwork bali java thailand indonesia"
    ),
    "mbox": "musicbox glockenspiel celesta celeste toybox tinkle toypiano snowglobe carousel",
    "flute": (
        "flute recorder whistle woodwind clarinet piccolo oboe bassoon panflute pipe ocarina flautist pennywhistle"
        " wind shakuhachi fife bansuri dizi ney quena duduk bamboo whistling whistler birdsong bird xiao didgeridoo"
        " charanga reed harmonic piper nightingale lark robin sparrow canary owl cuckoo"
    ),
    "violin": (
        "fiddle cello viola violinist cellist fiddler erhu sarangi kamancheh rebab nyckelharpa hurdygurdy theremin"
        " strad stradivarius bow"
    ),
    "guitar": (
        "guitar ukulele banjo mandolin lute guitarist nylon sitar strum strumming picking fingerpicking fingerstyle"
        " dobro balalaika bouzouki zither oud charango guitarron tres shamisen pipa sarod cavaquinho slide twang raga"
        " arpeggione fretboard fret cowboychord capo bottleneck resonator steelguitar lapsteel persia morocco algeria"
        " tunisia arabia spaniard andalusia charmer"
    ),
    "dist": (
        "distortion riff powerchord shred shredding overdrive fuzz electricguitar growl chug chugging headbang mayhem"
        " thrash metalcore deathcore grindcore"
    ),
    "synth": (
        "synth synthesizer synthesiser synthie moog analog analogue oscillator supersaw saw sawtooth modular keytar"
        " electronics juno vocoder lfo resonance detune waveform patch preset arpodyssey prophet dx7 wavetable"
        " bassstation"
    ),
    "arp": (
        "arp arpeggio arpeggiator sequence sequencer arpeggiation pluck ostinato sequencing glitter sparkle twinkle"
        " chiming cascade flutter ripple roulade spark glimmer gleam"
    ),
    "chip": "bleep blip bloop beep squarewave pulsewave bitcrusher",
    "brass": (
        "brass trumpet trombone horn tuba frenchhorn cornet flugelhorn bugle fanfare brassband sousaphone trumpeter"
        " euphonium plunger cavalry regiment parade herald cavalryman battalion trumpeting salute marchingband"
        " homecoming mute louder"
    ),
    "sax": "sax saxophone altosax tenorsax saxo",
    "choir": (
        "choir choral chorale chant vocal voice vocalist singer singing chorister monk aah ooh acapella hymn madrigal"
        " hymnal psalm barbershop doowop harmony chanting chanter chapel angel priest cathedral abbey monastery"
        " cloister church nun acappella cappella cantor cantata oratorio mass gregorian vespers evensong hallelujah"
        " carol carolling caroler saint nativity christmas advent xmas noel sleighbell bethlehem saviour savior"
        " pilgrim pilgrimage basilica mosque synagogue prayer female male alto soprano tenor baritone crooning"
        " yodelling holy spirit"
    ),
    "marimba": (
        "marimba kalimba xylophone steelpan steeldrum balafon mbira thumbpiano woodblock steelband hang handpan"
        " metallophone vibraslap tongue log congo kenya zimbabwe tanzania safari zebra hippo steel"
    ),
    "organ": (
        "organ hammond accordion harmonica harmonium concertina squeezebox organist bandoneon bagpipe melodica"
        " calliope barrel bellows sheng crypt concertinas paris musette fairground ferris bellringer sacristy transept"
        " nave sermon bishop pope wake baptism france french parisian montmartre eiffel baguette"
    ),
    "pad": "pad synthpad wash texture shimmer soundpad warmpad",
    "strings": (
        "string orchestralstring stringsection ensemble stringquartet pizzicato legato quartet tremolo spiccato"
        " staccato sordino divisi detache marcato glissandi"
    ),
    "harp": (
        "harp lyre harpist koto glissando kora dulcimer guzheng zheng guqin yangqin santoor qanun cimbalom gayageum"
        " vietnam korea china japan kyoto tokyo geisha shogun haiku pagoda bonsai origami kimono cherryblossom senegal"
        " mali"
    ),
    "bass": "bass bassline bassguitar bassist lowend slap ebass",
    "synthbass": "synthbass acidbass 303 reese moogbass wobble growlbass",
    "subbass": "subbass sub 808 subwoofer",
    "upright": "uprightbass doublebass contrabass standupbass",
    "drums": (
        "drum beat percussion drummer drumbeat drumming rhythm kick snare hat hihat cymbal tom backbeat break drumkit"
        " bongo conga tabla cajon tambourine percussionist clap handclap shaker bodhran djembe maraca cowbell kickdrum"
        " snaredrum fourfloor breakdown dhol timbale guiro surdo polyrhythm stomp clapping claps hammer gunshot"
        " timekeeper skin claves agogo paradiddle groovebox bang pulse metronome footstep stick rimshot rim blastbeat"
        " junk trashcan bucket batucada bateria finger frame framedrum beater hand feet foot heartbeat"
    ),
    "electrokit": "drummachine 909 707 linndrum drumcomputer electrodrum",
    "acoustickit": "livedrum acousticdrum rockdrum",
    "softkit": "brush softdrum",
    "taiko": (
        "taiko timpani wardrum kettledrum bigdrum epicdrum thunderdrum colossus avalanche stampeding rumble"
        " earthquake thunderclap"
    ),
    "solo": "solo soloist monologue",
    "dance": "dance dancefloor disco discotheque choreography moonwalk clubber",
    "orchestra": "orchestra symphony maestro conductor philharmonia",
    "dark": (
        "darkness horror halloween nightmare villain monster ghost demon shadow tension thriller suspense mystery"
        " doom dread terror zombie vampire witch haunt graveyard dungeon cave abyss danger murder crime noir evil hell"
        " storm thunder apocalypse dystopia wasteland menace stealth heist detective midnight fog tomb alien guard"
        " sneak spell stormcloud thunderstorm volcano lava mine goblin spider trap bunker maze ruin swamp curse"
        " skeleton tunnel sewer trench underworld conspiracy interrogation submarine clock tick mafia assassin"
        " infiltration infection outbreak cult ritual thief robber burglar killer prison jail prisoner fear scream"
        " blood bone raven crow wolf bat serpent snake hunter hunt corpse coffin morgue asylum attic cellar werewolf"
        " poltergeist exorcism plague poison knife shotgun betrayal revenge predator shark crocodile panther tarantula"
        " wasp scorpion cockroach rat vermin slime torture dagger noose scaffold gallows execution inquisition heresy"
        " pagan druid stonehenge rune oracle voodoo seance ouija mummy sarcophagus catacomb necropolis mausoleum"
        " hearse undertaker phantom specter spectre wraith banshee ogre troll orc minion henchman villainy corruption"
        " scandal blackmail kidnapping hostage ransom sniper smuggler spyware surveillance wiretap codebreaker cipher"
        " code secret clue case crimescene autopsy forensic nuclear radiation wreck shipwreck fallout quarantine virus"
        " pandemic hazard siren emergency evacuation blackout static glitch malfunction nemesis rival adversary foe"
        " enemy threat warning alley backstreet underpass parking manor mansion swampland bayou quicksand thicket"
        " bramble thorn gloom omen fate bear spooked wolves thieves creak creaking clank clanking chain cobweb web"
        " spiderweb dungeonmaster barking bark howl growler rot mold mildew warden cell handcuffs shipwrecked stranger"
        " suspect chaser bounty outlaw bandit ghoul fiend devil satan lucifer purgatory limbo underworldly nightfallen"
        " grudge wrath hate hatred venom drip death drug gang gangland hole crash disaster collapse collapsing gunman"
        " terrorist fugitive fraud victim risk crisis harm shock suspicion weapon cage gutter sewerage locker smoke"
        " mask masquerade keeper vault bank inspector agent operative bureau dossier evidence oath blade pistol rifle"
        " darkroom"
    ),
    "sad": (
        "sadness sorrow grief heartbreak melancholy tear longing nostalgia regret loss funeral goodbye farewell"
        " lament elegy tragedy loneliness solitude breakup memory mourning requiem despair autumn rain winter rainfall"
        " drizzle leaf friend ash wound exile orphan widow rejection leaves soldier grave tombstone homesickness"
        " refugee orphanage heartache hospice hangover emptiness ember cemetery memorial tribute remembrance november"
        " october separation divorce ache pain suffering hunger poverty famine drought regretting apology forgiveness"
        " sigh puddle umbrella platform departure silence illness disease cancer dementia veteran survivor trauma"
        " depression guilt shame fading past photograph album keepsake wrong failure mistake misery pity debt lie liar"
        " lastchance lonelyheart tearjerker scar"
    ),
    "happy": (
        "happiness joy fun smile party celebration birthday wedding summer beach picnic holiday sunshine laughter"
        " festival carnival vacation spring puppy cheer delight bliss circus cartoon comedy breakfast success win"
        " winner toy kitten mascot bubble friendly candy cupcake unboxing quiz clown shop store prize graduation"
        " reward pancake cooking recipe clumsiness monkey penguin show playground school kids balloon lollipop"
        " icecream trampoline juggler acrobat confetti fireworks playtime bunny hamster giraffe panda elf gnome"
        " leprechaun pinata barbecue barbeque bbq cruiser giggle grin joke prank comedian slapstick sitcom clownery"
        " hooray cheerleader pom medal trophy jackpot lottery gift present surprise unwrapping thanksgiving easter egg"
        " valentine newyear firework popcorn cottoncandy donut doughnut cookie cake pie chocolate lemonade smoothie"
        " snack lunch brunch kite seesaw sandbox puppet marionette puppeteer teddybear duckling chick piglet lamb foal"
        " calf bumblebee bee ladybug caterpillar hedgehog squirrel chipmunk otter koala kangaroo meerkat goat donkey"
        " pony chicken rooster hen goldfish hop skip jump hopping bounce wiggle waddle friendship buddy pal playmate"
        " neighbor neighbour neighborhood neighbourhood fair funfair amusement themepark rollercoaster waterpark"
        " splash sprinkler icecreamtruck daycare preschool learning alphabet counting craft diy makeover superstar"
        " goofball cereal waffle sandwich pizza burger fries ketchup picnicker fruit apple banana strawberry cherry"
        " orange lemon honeybee zoo farmyard sticker crayon marker doodle kitty animation snail mouse mice grandma"
        " grandpa granny gran auntie uncle nephew niece jog money year luck fortune treasure bonus pool sugar cream"
        " juice popstar pet campsong funpark hobby craftsman costume odd"
    ),
    "calm": (
        "calmness peace serenity relaxation tranquility spa yoga sleep rest ocean lake nature garden breeze breath"
        " stillness quietness sunset sunrise dawn morning evening forest wave stream river meadow massage zen coffee"
        " cafe library focus study studying reading healing hammock tea mountain menu field hotel call hold fishing"
        " farming puzzle loading pause countryside sunday sea water pond window shore cabin fireplace fire candle meal"
        " bath porch boat harbor harbour walk walking lantern temple tatami monday kitchen healer deer train balance"
        " island love wellness waiting reception background dinner growth dusk twilight afternoon noon weekend home"
        " cottage cat dog rabbit horse sheep cow duck goose fisherman grandfather grandmother mother father family"
        " book novel letter diary yarn shell stone pebble moss blossom petal flower rose lily tree oak pine grass path"
        " trail bench cliff bay cove reef bridge canal lighthouse bakery bistro sofa blanket pillow patient hospital"
        " nurse doctor clinic office classroom class teacher student pottery painting painter poem poet raindrop"
        " cloudburst mill orchard vineyard harvester lamp streetlamp door hall park pier turtle koi heron swan"
        " grandparent moonrise waterfall brook creekside willow fern meadowland lavender tulip daisy sunflower orchid"
        " jasmine hive dew dewdrop breezeway seaside coastline coast beachside seashell tide dune lakeside riverside"
        " canoe kayak paddle rowboat sailboat raft barge dock jetty marina angler camp camping tent sleepingbag hike"
        " hiker hiking trekking stroll strolling bicycle cycling veranda balcony greenhouse courtyard fountain gazebo"
        " bathhouse hotspring onsen incense aroma aromatherapy acupuncture chakra breathing mindful sipping cappuccino"
        " espresso latte matcha teapot teacup toast honey bread soup stew cheese wine candlelight knitting sewing"
        " embroidery crochet weaving loom carpentry woodwork calligraphy sketch sketching watercolor watercolour"
        " canvas bookshop bookstore reader poetry prose commuter commute tram bus ferry gondola overlook viewpoint"
        " lodge chalet resting doze dozing snooze slumber nightfall nightwatch stargazing day routine chore laundry"
        " dishes gardening gardener watering farmhouse farmer granary grandchild sister brother daughter newborn"
        " pregnancy parent couple hug kiss embrace trust kindness gratitude hope faith grace mercy gentleness patience"
        " comfort relief softness warmth tenderness devotion affection late drives armchair slippers couch rug carpet"
        " curtain sill vase saucer biscuit scone jam butter pastry croissant waiter chef lane fish skincare"
        " marketplace countrylane cosmetics lotion soap shampoo perfume early bed bedside heart body plant lawn yard"
        " backyard charity donation volunteer care health wellbeing steam pattern pass wall hedge fence sidewalk shade"
        " watermill windmill sheepfold pasture grassland"
    ),
    "energetic": (
        "energy power workout gym sport race racing chase running fight battle action adrenaline training boxing"
        " aggression rage anger speed rush fury football explosion motorsport exercise rampage duel attack storming"
        " crowd highlight blast sprint gun tank jet rocket engine riot uprising drop stunt parkour skate climb squad"
        " mission combat speedrun wrestler warpath sports stampede rodeo circuit motivation panic exam hurry deadline"
        " skater roller surfer surfing truck car bike motorbike wheel derby sprinter marathon tournament basketball"
        " soccer hockey wrestling karate ninja gangster shootout ambush escape escapee pursuit chasing drag superbike"
        " dirtbike motocross snowboard snowboarding ski skiing bungee skydive skydiving paraglider freerun freerunning"
        " hustle grind sweat muscle weightlifting lifting crossfit hiit cardio spinning aerobics zumba bootcamp punch"
        " kickboxing mma knockout rematch sparring bull bullfight matador lightning thunderbolt turbocharge horsepower"
        " nascar rally hotrod dragster checkpoint finishline overtime penalty goal touchdown cup league liftoff"
        " takeoff dogfight airstrike artillery bomb grenade missile cannon barrage firefight assault invasion raid"
        " skirmish brawl barfight frenzy mania madness outburst eruption whirlwind tornado hurricane cyclone typhoon"
        " tsunami wildfire inferno blaze bushfire firefighter ambulance police manhunt getaway jailbreak breakout"
        " robbery wheelie burnout rolling leap dash pace hurdle sprinting traffic construction jackhammer sawmill"
        " steamroller assembly commando swat ranger skateboarder rollerblade rollerblading boulder climber jogging"
        " jogger skating skateboarding stealing steal match force impact burn motor throttle gear strike speedboat"
        " bobsled kart karting gokart"
    ),
    "dreamy": (
        "dream space cosmos galaxy star moon heaven cloud fantasy wonder universe nebula planet night starlight"
        " aurora fairy magic mist haze floating moonlight snow snowfall trip journey mirage crystal ice echo"
        " exploration horizon mermaid dolphin orb portal hologram comet satellite orbit glacier tundra rainbow wing"
        " feather lagoon butterfly firefly wizard enchantment air light lights reverberation distance glow world map"
        " sky title reverb tale spaceship astronaut mars venus jupiter saturn telescope potion unicorn pegasus phoenix"
        " mirror snowflake jellyfish coral abysm constellation stardust supernova eclipse zodiac prism labyrinthine"
        " atlantis avalon earth moonbeam sunbeam sunray starship asteroid meteor crater rover cosmonaut gravity"
        " orbiting quasar wormhole blackhole singularity timewarp hyperspace warp dimension multiverse parallel"
        " dreamworld dreamscape reverie hypnosis vision illusion kaleidoscope fractal lavalamp swirl spiral vortex"
        " whirlpool abyssal kelp seahorse octopus manta plankton biolume bioluminescence glowworm wish fairytale"
        " fairyland pixie nymph enchantress sorcerer sorceress wand alchemist alchemy tarot dreamcatcher amulet"
        " talisman aether ether iceberg icicle frost north siberia arctic antarctica antarctic polar iceland"
        " northernlights winterwonderland sleigh snowman snowstorm hoarfrost pearl opal sapphire emerald amethyst"
        " diamond silver halo delay echoes swirling elves falling fall quantum particle atom molecule mind thought"
        " imagination idea color colour glass"
    ),
    "epic": (
        "hero victory war triumph adventure legend glory quest warrior king kingdom empire castle knight dragon saga"
        " conquest voyage army champion viking pirate gladiator battlefield titan samurai tribe nation climax"
        " crescendo riser buildup crusade emperor pharaoh pyramid colosseum fleet ship sail sailing captain siege"
        " throne dwarf ancestor monument olympics flag honor honour boss build rome roman greece sparta troy queen"
        " prince princess banner ride horseback odyssey myth mythology prophecy destiny crown sword shield armor"
        " armour mountaineer summit peak eagle lion elephant dinosaur superhero avenger giant behemoth leviathan"
        " kraken hydra minotaur cyclops griffin gryphon basilisk wyvern dragonslayer swordsman archer crusader templar"
        " paladin barbarian centurion legion legionnaire phalanx cohort general commander marshal admiral armada"
        " flagship galleon frigate explorer expedition frontier pioneer settler founding independence revolution"
        " revolt rebellion liberation freedom justice courage bravery valor valour sacrifice calling moonlanding"
        " apollo nasa everest olympia olympian zeus thor odin valhalla asgard norse gods god goddess creation genesis"
        " exodus ark babylon mesopotamia mongol khan genghis czar tsar kaiser napoleon caesar cleopatra alexander"
        " spartan trojan aztec maya inca conquistador battleship coronation procession inauguration monarchy dynasty"
        " realm domain citadel fortress stronghold rampart drawbridge watchtower tower gate portcullis catapult"
        " trebuchet lance joust final approach sailor egypt sphinx nile greatness achievement change leader leadership"
        " statue"
    ),
    "jingle": (
        "jingle sting stinger ident logo notification ringtone announcement alert bumper alarm countdown outro"
        " signoff ringback doorbell checkout login shutdown error buzzer buzz stab transition swoosh whoosh"
    ),
    "drone": ("drone overtone hum om tanpura shruti undertone mantra tone throat mongolia tuva ohm vibration hertz hz"),
    "electronic": (
        "city town downtown metropolis technology tech circuitry computer software data network internet server"
        " android cyborg ai gadget hacker idm glitchhop microchip mainframe terminal nanotech nanobot biotech"
        " cybernetics augmentation algorithm blockchain crypto bitcoin spaceport megacity skyscraper monorail hovercar"
        " maglev hyperloop future futurism simulation matrix vr metaverse bot mech mecha antenna radar modem fax"
        " printer scanner laptop monitor cable wifi router coder programmer developer engineer chopped chop slicing"
        " stutter"
    ),
    "acoustic": "trio duo duet livingroom",
    "slow": "slowmo",
}

# Other words, by concept.
OTHERS = {
    "ambient": (
        "atmospheric meditative spacious droning oceanic zenlike contemplative newagey ambiental formless shapeless"
        " beatless drumless environmental immersive drony"
    ),
    "techno": "ravey clubby mechanical metallic squelchy industrial robotized",
    "jazz": ("jazzy swinging bluesy swingy smoky sultry muted swung noirish swingin tipsy loungy sophisticated classy"),
    "classical": (
        "mozartian orchestrated romantic elegant courtly impressionist stately aristocratic refined viennese operatic"
        " virtuosic polyphonic contrapuntal"
    ),
    "rock": "rocking rocky grungy punky gritty bratty snotty",
    "folk": (
        "folky folksy rustic rural irish scottish countryside pastoral appalachian celtic medieval hawaiian andean"
        " nordic scandinavian balkan gaelic welsh traditional tribal american russian ukrainian polish hungarian"
        " romanian serbian bulgarian greek turkish jewish israeli welshfolk breton galician alpine swiss austrian"
        " bavarian german dutch swedish finnish norwegian danish czech slavic texan western homespun humble hearty"
    ),
    "chiptune": "8bit 16bit 8bits retrogame pixelated chippy",
    "cinematic": (
        "filmic theatrical movielike underscored panoramic widescreen cinematographic scenic historical biographical"
        " serious informative factual journalistic"
    ),
    "hiphop": "urban rapping streetwise boomy",
    "pop": (
        "poppy mainstream catchy radiofriendly modern corporate fresh stylish trendy commercialized polished viral"
        " trending youthful girly confident contemporary current luxurious rich expensive premium exclusive glossy"
    ),
    "synthwave": "80s 1980s eighties retrofuturistic neon miami vhs retro italo gated retrofied nineties 90s",
    "latin": (
        "brazilian cuban spanish mexican hispanic argentinian tropical caribbean portuguese flamencoish peruvian"
        " bolivian chilean colombian venezuelan puertorican haitian polynesian summery exotic"
    ),
    "funk": (
        "funky soulful groovy 70s 1970s groovin grooving seventies nigerian syncopated sassy sexy slinky greasy slick"
        " cool cheeky"
    ),
    "reggae": "reggaelike",
    "calm": (
        "calming peaceful peacefully relaxing relaxed relax relaxingly gentle gently soft softly soothing quiet"
        " quietly tranquil mellow serene serenely chill chilled restful light lightly delicate delicately sleepy"
        " breezy tender tenderly warm warmly easygoing laidback smooth smoothly subtle understated unhurried"
        " comforting cozy cosy still minimal minimalist minimalistic sparse sparsely hushed subdued placid intimate"
        " balmy lazy unwinding meditational pianissimo sweet sweetly lulling pleasant bland clean green muffled"
        " slumbering dusty distant small silent pastel slowed sleeping velvety creamy simple repeating repetitive"
        " resonant minimalism echoing waiting deep comfy snug cushy plush silky satin satiny whispering whispered"
        " flowing gliding rippling lapping babbling trickling dripping swaying grounded centered balanced harmonious"
        " kind caring loving affectionate faithful trusting restorative nourishing leafy grassy mossy flowery floral"
        " blooming herbal fragrant moonlit candlelit firelit homely domestic uncomplicated unobtrusive discreet"
        " neutral ordinary everyday casual idle idling lounging wandering meandering ambling pondering musing"
        " thoughtful curious inquisitive studious scholarly bookish steadying sober sane safe secure comfortable nice"
        " easy graceful softened quieter gentler warmer healthy careful"
    ),
    "happy": (
        "happily cheerful cheerfully joyful joyous upbeat bright brightly uplifting playful playfully sunny positive"
        " feelgood optimistic lively cheery bouncy cute funny quirky festive merry jolly jovial lighthearted carefree"
        " hopeful gleeful exuberant whimsical ecstatic giddy perky zippy radiant blissful delightful bubbly jaunty"
        " sparkling rejoicing heartwarming zany goofy silly comical jubilant buoyant sprightly enthusiastic charming"
        " elated euphoric bubbling clumsy winning rowdy skipping friendly glittering rubbery whistled comic twangy"
        " wacky sparkly laughing giggling grinning smiling celebrating partying cheering hilarious comedic humorous"
        " witty mischievous naughty bumbling wobbly waddling jumpy peppy chirpy chipper snappy spry fizzy sugary"
        " colorful colourful vibrant vivid golden shiny sunlit sunkissed fruity juicy adorable lovable cuddly fluffy"
        " furry tiny childish childlike innocent kiddie grateful thankful thrilled pleased glad encouraging supportive"
        " welcoming inviting neighborly festal celebratory happier brighter lighter funnier cuter lucky funnyman free"
    ),
    "dark": (
        "ominous mysterious tense spooky scary brooding eerie gloomy suspenseful sinister menacing haunting haunted"
        " creepy mystical darker darkest grim unsettling disturbing foreboding gothic bleak shadowy dystopian"
        " threatening nightmarish macabre cold murky occult frightening apocalyptic uneasy dissonant moody twisted"
        " demonic hellish deadly secretive stealthy harrowing nervous anxious paranoid stormy sneaky sneaking ticking"
        " strange alien ancient undead sinking murmuring claustrophobic industrialized echoey egyptian arabic persian"
        " arabian monstrous creeping suspended lurking underground dim growling cursed rotten toxic poisonous venomous"
        " bloody ghostly spectral ghastly ghoulish wicked vicious cruel savage villainous nefarious diabolical"
        " infernal satanic unholy forbidden hidden unseen suspicious shady dodgy criminal lethal fatal dangerous"
        " hazardous perilous risky desperate doomed hopeless ruined decaying decayed crumbling rusty rusted grimy"
        " dirty sunless black shadowed veiled enigmatic cryptic uncanny weird bizarre unnerving chilling bloodcurdling"
        " alarming panicked panicky distressed disturbed insane mad crazed psychotic deranged possessed feral"
        " predatory stalking prowling hunting looming impending approaching advancing encroaching suffocating"
        " oppressive dreadful terrifying terrified horrifying horrific grotesque hideous monolithic spookier scarier"
        " creepier deeper illegal deadened collapsed brutalist"
    ),
    "sad": (
        "sadly melancholic emotional emotionally lonely nostalgic somber sombre bittersweet sorrowful reflective"
        " wistful heartbreaking depressing depressed tragic touching mournful poignant yearning pensive plaintive"
        " downcast heartfelt introspective grieving forlorn rainy weeping tearful desolate melancholically sentimental"
        " regretful hurt broken aching doleful dejected unhappy crying wintry autumnal lost longing homesick lamenting"
        " losing abandoned rueful mournfully teary longingly empty faded lonesome solitary isolated separated"
        " estranged betrayed defeated fallen failing failed wounded bruised scarred fragile vulnerable helpless weary"
        " tired exhausted worn hollow numb grey gray ashen faint dying dead departed bereaved funereal elegiac"
        " contemplating remembering missing unrequited hurting resigned wilted withered sadder lonelier disappointed"
        " sorry last breaking poor unlucky ill sick homeless unloved unwanted"
    ),
    "energetic": (
        "energetically driving powerful powerfully intense intensely exciting pumping aggressive hard dynamic"
        " hardhitting wild heavy loud strong explosive frantic banging pounding relentless furious highenergy punchy"
        " thumping fierce adrenalized electrifying rousing motivating motivational vigorous stomping raging hectic"
        " ferocious brutal angry thrilling chaotic manic pulsating pulsing throbbing hyper energizing energising"
        " spirited fiery racy headbanging turbo bombing blazing kinetic raw crushing busy massive rebellious crowded"
        " competitive roaring smashing hammering skanking urgent fighting sliding rattling hurtling attacking speeding"
        " rushing dashing jumping leaping kicking punching slamming crashing thundering booming blasting screaming"
        " shouting yelling howling screeching wailing unstoppable invincible fearless reckless daring bold gutsy tough"
        " rugged muscular brawny sweaty athletic sporty fit active hyperactive restless impatient eager hyped pumped"
        " amped turbocharged supercharged volcanic electrified wired caffeinated nonstop breathless pressing pushing"
        " propulsive insistent incessant merciless ruthless violent warlike militant combative confrontational defiant"
        " anarchic unruly loose hot sizzling scorching burning flaming rough harsh blaring fastmoving"
    ),
    "dreamy": (
        "dreamily hypnotic ethereal lush hazy airy magical cosmic surreal psychedelic trippy shimmering celestial"
        " otherworldly floaty weightless enchanting enchanted mesmerizing mesmerising spacey heavenly angelic"
        " reverberant glowing gauzy sublime transcendent spiritual sacred mystic iridescent blurry drifting astral"
        " interstellar galactic starry dreamlike nocturnal underwater hallucinatory infinite wondrous reverby snowy"
        " icy elven crystalline spatial glassy vast white soaking watery impressionistic misty foggy wide spiraling"
        " spiralling whirling twirling hovering levitating boundless endless eternal timeless ageless lunar solar"
        " stellar planetary extraterrestrial unearthly supernatural fantastical fantastic mythical mythic fabled"
        " faraway remote northern frozen frosty frigid wintery silvery pearly opalescent translucent transparent"
        " luminous luminescent phosphorescent bioluminescent glimmering gleaming glistening flickering fluttering"
        " undulating submerged sunken cavernous delayed blurred hazed nebulous vaporous ephemeral fleeting elusive"
        " intangible abstract experimental unreal imaginary imagined visionary prophetic hypnotized entranced"
        " spellbound bewitched beautiful lovely gorgeous pretty wonderful amazing changing evolving morphing shifting"
        " transforming"
    ),
    "epic": (
        "heroic heroically dramatic dramatically triumphant grandiose majestic adventurous inspiring inspirational"
        " monumental anthemic victorious noble glorious mighty soaring stirring bombastic regal royal legendary"
        " colossal gigantic towering sweeping thunderous brave courageous ceremonial proud imposing huge national"
        " rising marching dwarven sailing olympic grand progressive viking building imperial enormous immense"
        " tremendous gargantuan titanic earthshaking groundbreaking ultimate supreme decisive climactic culminating"
        " swelling growing mounting ascending climbing conquering invading commanding authoritative dignified solemn"
        " honorable honourable valiant gallant chivalrous knightly patriotic military martial crusading warring"
        " battling undefeated unbeaten unbroken unyielding immortal godlike divine mythological biblical mayan incan"
        " bigger grander magnificent spectacular awesome impressive outstanding famous historic global worldwide"
        " international universal"
    ),
    "slow": (
        "slowly slower downtempo adagio lento largo unhurriedly lethargic sluggish slowest dragging andante"
        " lentissimo slowcore crawling plodding leisurely larghetto adagietto slowpaced winding slowing lazily gradual"
        " gradually largamente unrushed sleepwalking plod sustained held rubato ritardando"
    ),
    "medium": "moderate moderately midtempo moderato steady average normal",
    "fast": (
        "quick quickly faster rapid rapidly uptempo fastpaced allegro presto vivace brisk speedy hurried swift"
        " breakneck fastest prestissimo galloping swiftly quicker accelerated briskly allegretto hasty hyperspeed"
        " frenetic accelerating speedier quickest"
    ),
    "major": "maj dur",
    "minor": "min moll aeolian",
    "electronic": (
        "electronically electric digital computerized technological futuristic synthetic robotic programmed cyber"
        " scifi synthesized synthesised chrome glitchy mobile binary cybernetic algorithmic automated artificial"
        " virtual wireless robotical digitized digitised bleeping glitched vocoded sidechained advanced automatic"
        " mathematical scientific technical sliced stuttering stuttered"
    ),
    "acoustic": "acoustically unplugged organic woody earthy natural bamboo wooden handmade live handplayed wood",
    "piano": "keys ivories pianistic",
    "solo": "lone alone unaccompanied",
    "strings": "bowed violins cellos violas stringed",
    "drums": "percussive rhythmic rhythmical clapped stomped polyrhythmic drummed beaten tapped thumped rattled",
    "softkit": "brushed",
    "dist": "distorted overdriven crunchy fuzzy shredded djent scorched snarling gnarly filthy sludgy",
    "synth": "synthy synthlike",
    "arp": "arpeggiated plucky sequenced arpeggiating plinky cascading tinkling twinkling",
    "chip": "bleepy beeping pixely",
    "choir": "sung choral wordless liturgical religious churchlike devout prayerful",
    "brass": "brassy",
    "bass": "bassy",
    "dance": "danceable dancing",
    "orchestra": "orchestral symphonic philharmonic",
    "house": "skippy glamorous",
    "drone": "overtoned droney humming binaural tibetan mongolian guttural",
    "violin": "fiddled",
    "harp": "japanese chinese oriental asian korean vietnamese senegalese malian",
    "guitar": "indian hindustani fingerpicked moroccan middleeastern eastern bollywood punjabi",
    "marimba": "african balinese ghanaian kenyan zimbabwean congolese plunking knocking tapping",
    "lofi": "tapey grainy warped scratchy amateur homemade crude",
    "flute": "feathery birdlike",
    "vibraphone": "indonesian thai javanese",
    "organ": "churchy",
    "pad": "washy blanketing enveloping",
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
