"""Nouns of prompts, by the concept that they stand for; their plurals are derived (see `words`)."""

from __future__ import annotations

NOUNS = {
    "ambient": (
        "ambient soundscape soundbath noise meditation mindfulness newage reiki whale airport vastness noisescape"
        " himalaya plateau steppe void nothingness wilderness hush haven sanctuary retreat monsoon tibet monolith"
        " blizzard fjord drift vapor vapour sauna sonar whisper hiss aquarium emptyspace asmr atmospherics environment"
        " rustle spaciousness immersion seagull surroundings soundwalk cicada stratosphere wind gust raindrop hillside"
        " windswept desertscape quietscape backdrop"
    ),
    "techno": (
        "techno trance rave hardstyle psytrance goa eurodance gabber hardtek tekno industrial schranz acid warehouse"
        " robot factory machine strobe bassdrop laser berlin detroit conveyor piston turbine generator reactor"
        " forklift treadmill bunkerclub subway metro pulsar dancer modulator steampunk machinery hydraulics drill ebm"
        " jumpstyle terrorcore techstep raver laserbeam conveyorbelt glowstick automaton cog rotor forge foundry"
        " hardbass nrg psy rawstyle trancecore darkstep glitchcore"
    ),
    "house": (
        "house electro edm nightclub club clubbing garage eurohouse runway catwalk rooftop fashion amapiano poolside"
        " mall ibiza dj yacht penthouse cocktail terrace swimsuit filter sidechain afterparty poolparty glamour"
        " complextro electroclash moombahton nightlife clubland remix daytona bouncer bartop sunlounger"
    ),
    "lofi": (
        "lofi chillhop chillout studybeat lowfi jazzhop coding programming cassette vinyl crackle tape walkman"
        " bedroom dorm desk homework notebook vintage gramophone phonograph crackling mug blog demo cheap mixtape"
        " boombox turntablism rooftopcat notepad latenight typewriter tinny muddy"
    ),
    "jazz": (
        "jazz swing bebop bop lounge ragtime dixieland bigband hardbop cooljazz nightcap speakeasy cabaret saloon"
        " martini lobby elevator spy orleans prohibition improvisation improv restaurant saxophonist crooner sommelier"
        " shuffle scat quintet sextet vamp cigar whisky whiskey bourbon casino bartender harlem chicago gatsby"
        " charleston gentleman fingersnap snap snapping sophisticate fedora broadway showtune vaudeville showbiz"
        " tuxedo supperclub bluesman bluesy blues jazzman jazzclub jam barfly louisiana bourbonstreet louche flapper"
        " prohibitionera vibist hipster beatnik saxman manouche memphis chicagoan mississippi cigarette"
    ),
    "classical": (
        "classical baroque sonata waltz minuet nocturne etude prelude concerto fugue rondo serenade mazurka bagatelle"
        " gavotte chamber opera aria intermezzo impromptu symphonietta renaissance romanticism partita scherzo"
        " divertimento toccata canon capriccio arabesque rhapsody bourree sarabande gigue allemande ballroom suite"
        " aristocrat palace salon ballet march palazzo museum gallery vienna court ball duchess duke baron countess"
        " carriage chandelier counterpoint cadence coda interlude arco conservatory composer ballerina soiree opus"
        " theatre theater libretto nobleman versailles victorian etiquette chess venice florence milan wig powdered"
        " operetta virtuoso virtuosity ornamentation recital countermelody maestoso beethoven mozart bach vivaldi"
        " haydn handel brahms tchaikovsky schubert schumann liszt mendelssohn strauss wagner verdi puccini mahler"
        " dvorak grieg ravel neoclassical neoclassicism philharmonic leitmotiv pavane galliard sinfonia cantilena"
        " passacaglia chaconne fantasia romanza ornament trill appoggiatura aristocracy monarch lord connoisseur"
        " gentry manor waltzer recitative manuscript quill sculpture statue marble elegance"
    ),
    "rock": (
        "rock grunge punk rocker garagerock indierock britpop rockabilly emo rocknroll postrock stoner shoegaze"
        " stadium arena biker motorcycle surf basement guitarsolo woodstock leather jacket drumstick amplifier amp"
        " mosh headbanger roadie british sixties 60s alternative screamo emocore glam prog rockstar powerballad rebel"
        " grit headbanging attitude angsty psychobilly protopunk bandmate jangle jangly altrock britrock rockband"
        " garageband axe electronicore swagger hippie mullet tattoo merseybeat skiffle aor electrorock powerpop"
        " poprock nwobhm beatlesque"
    ),
    "folk": (
        "folk country americana bluegrass celtic campfire songwriter shanty polka hoedown bard troubadour honkytonk"
        " jig reel medieval hillbilly cowboy farm prairie village tavern road inn pub barn valley hill homestead"
        " harvest peasant highland fado klezmer moor market blacksmith miller shepherd wagon creek ranch horseman"
        " bonfire lumberjack fiddlehead chanson kettle sheepdog dairy blossoming cornfield quilt whittling banjoist"
        " yodel lederhosen oktoberfest bavaria alps appalachia kentucky tennessee texas nashville prospector trapper"
        " stagecoach tumbleweed saddle lasso ballade minstrel jester feast banquet ale mead goblet squire gypsy russia"
        " ukraine poland hungary romania serbia bulgaria turkey ireland scotland wales england brittany galicia busker"
        " crossroads railroad railway hobo rail boxcar freight bazaar souk stall cajun zydeco folklore heritage"
        " tradition delta southerner folkmusic tractor barnyard merchant trader villager townsfolk countryman sheriff"
        " cowgirl buffalo bison coyote cactus homesteader mountainman porchswing bohemian wanderer nomad rambler"
        " drifter tavernkeeper innkeeper archaic schottische polska mazur csardas hora kolo freylekhs ceilidh chateau"
        " backwoods countryfolk lumber axeman moonshine whittler cattle rodeo bull oldtimer plow mapuche beer firewood"
        " pint drinkingsong homeplace cider kilt"
    ),
    "chiptune": (
        "chiptune arcade nes gameboy famicom sega console platformer videogame chipmusic pixel eightbit sixteenbit"
        " c64 commodore atari amiga snes jrpg rpg minigame joystick cartridge sprite powerup highscore cheat coin gem"
        " powerpellet invader tetris handheld cart emulator eightbitdo spriteset gamer games demoscene roguelike"
        " roguelite metroidvania overworld sidescroller pokemon minecraft mario zelda pinball nintendo playstation"
        " xbox gameplay respawn bossfight platforming inventory npc hud gamejam quicktime tilemap"
    ),
    "cinematic": (
        "cinematic soundtrack trailer film movie cinema score filmscore blockbuster documentary teaser ost moviescore"
        " overture cutscene scene credit news newscast broadcast headline drama montage underscore vista landscape"
        " savanna history biopic prologue epilogue finale canyon ceremony story narration lapse voiceover chapter"
        " episode screenplay director premiere cinematographer camera screen epicness recap flashback timelapse aerial"
        " flyover panorama plains trek journal witness discovery invention science scientist laboratory lab archive"
        " ticker anchorman reporter politics election debate hollywood oscar biography sequel trilogy plot storyline"
        " bulletin company business industry enterprise corporation finance economy investment government parliament"
        " senate congress policy report weather forecast storytelling storyteller narrative narrator protagonist"
        " antagonist character tv television media footage scenery scenario educator education geography chemistry"
        " physics biology chronicle memoir journalism wildlife filmmaking filmmaker videography cinematography"
        " intermission curtaincall thematics summit civilization innovation research researcher strategy president"
        " nation society politician speech evolution species law historian university college academy lecture"
        " congressman inauguration mediaevent planetearth communism capitalism democracy propaganda council tax"
        " communist"
    ),
    "hiphop": (
        "hiphop rap rapper boombap beatmaker freestyle triphop cypher street hood graffiti skateboard beatbox"
        " beatboxing beatboxer turntable scratch mc beatmaking emcee brooklyn bronx compton gangsta sampler boom"
        " breakdancer breakdance hoodie hustler cash dollar bling lowrider swag phonk crunk diss rhyme rapcore"
        " horrorcore thug dope ghetto punchline wordplay turntablist homie mcing gangsterism rapping graffitist"
        " breaker bboy hater chopper beatdown"
    ),
    "pop": (
        "pop kpop jpop commercial advert advertisement chart popsong indie indiepop corporate radio promo vlog"
        " bubblegum podcast video youtube vlogger tutorial presentation startup launch brand showroom estate phone"
        " mobile teen prom shopping smartphone influencer selfie boutique autotune idol boyband girlband singalong"
        " concert hashtag app product sale webinar interview vlogging explainer onboarding conference keynote meeting"
        " ad crush date romance summerhit streaming livestream streamer gaming luxury magazine makeup jewelry"
        " jewellery schlager europop hyperpop nightcore futurepop trot mandopop cantopop enka dancepop earworm"
        " billboard anime tiktok instagram youth teenage teenager girlfriend boyfriend diva popster eurovision poplike"
        " telenovela topchart breakup website campaign slideshow trend review reviewer lifestyle makeover technopop"
        " productivity marketing merch customer store retail subscriber ceo realestate agency karaoke mashup celebrity"
        " fan fandom telephone confidence entertainment citypop jukebox supermarket"
    ),
    "synthwave": (
        "synthwave retrowave outrun vaporwave newwave synthpop darkwave chillwave electropop eighty italodisco"
        " electronica cyberpunk highway dashboard skyline arcadia delorean ferrari camaro grid gridline palm palmtree"
        " sunsetstrip malibu vice cop darksynth retrofuturism vhs callback miamivice supercar motorcity lamborghini"
        " testarossa arcadecabinet neonlight cityscape coldwave spacesynth y2k"
    ),
    "lullaby": (
        "lullaby nursery cradle bedtime baby toddler infant child children kid kindergarten crib lullabye teddy nap"
        " sleepyhead pajama pyjama stork pram stroller goodnight yawn dreamland cuddle moonbeam tuckin pacifier"
        " nightlight bassinet infancy sleepytime naptime birth"
    ),
    "dnb": (
        "dnb jungle breakbeat breakcore neurofunk liquid drumandbass drumnbass junglist halftime amen drumstep neuro"
        " jumpup halfstep breakstep"
    ),
    "reggae": (
        "reggae ska dub rocksteady dancehall rasta jamaican reggaeton ragga jamaica rastafari roots skank upstroke"
        " offbeat kingston marley coconut dubby dembow soca zouk kompa ganja reggaetonero skanking dread dreadlock"
        " trinidadian dubplate weed cannabis marijuana smoking"
    ),
    "latin": (
        "latin salsa samba bossa bossanova tango flamenco rumba mambo cumbia merengue bachata mariachi bolero chacha"
        " cuba brazil spain habanera calypso latino latina havana lisbon fiesta carioca buenos aires caribbean montuno"
        " cigarillo cruise resort bikini pineapple mojito margarita tequila taco siesta hacienda peru bolivia chile"
        " colombia venezuela argentina mexico puerto rico dominican haiti hawaii luau hula bahamas barbados trinidad"
        " tahiti polynesia samoa fiji flamingo parrot toucan rainforest amazon paradise oasis sertanejo copacabana"
        " carnaval corrido ranchera norteno banda vallenato plena bomba lambada salsero bailando bandolero quinceanera"
        " tropicalia pagode choro forro chorinho milonga sones bongocero clavepattern canasta piraguas pinacolada"
        " sombrero poncho burrito cantina plaza villa ecuador honduras paraguay uruguay panama costarica pasodoble"
        " castanet urbano rio"
    ),
    "funk": (
        "funk soul motown gospel rnb groove boogie neosoul discofunk afrobeat highlife wah bootsy clavi strut"
        " strutting afro syncopation pimp rollerskate sneaker nigeria ghana lagos seduction sensuality funkiness"
        " rollerdisco bellbottom afropop soulman pocket strutter flirt groover discoball studio54 jive talkbox"
    ),
    "piano": (
        "piano pianoforte keyboard grand klavier pianist ivory harpsichord clavichord pianino chopin debussy satie"
        " saloonpiano pianola steinway sonatina keys keybiard fortepiano"
    ),
    "epiano": "epiano wurlitzer wurli clavinet rhode mellotron fenderrhodes rhodespiano",
    "vibraphone": (
        "vibraphone bell mallet chime vibraharp tubularbell carillon gong gamelan tingsha triangle handbell"
        " jinglebell ringing tubular windchime clockwork bali java thailand indonesia windbell singingbowl crotale"
        " glassharmonica bellringer bellsound cowbellish santa clink"
    ),
    "mbox": "musicbox glockenspiel celesta celeste toybox tinkle toypiano snowglobe carousel musicalbox ballerinabox",
    "flute": (
        "flute recorder whistle woodwind clarinet piccolo oboe bassoon panflute pipe ocarina flautist pennywhistle"
        " shakuhachi fife bansuri dizi ney quena duduk bamboo whistling whistler birdsong bird xiao didgeridoo"
        " charanga piper nightingale lark robin sparrow canary owl cuckoo whistled chirp chirping hornpipe"
        " clarinettist oboist bassclarinet contrabassoon whistletone syrinx kaval zurna suling sopilka tinwhistle"
        " llama alpaca condor andes songbird warble hooting"
    ),
    "violin": (
        "fiddle cello viola violinist cellist fiddler erhu sarangi kamancheh rebab nyckelharpa hurdygurdy theremin"
        " strad stradivarius bow esraj gadulka hardanger morinkhuur huqin celli violoncello gamba viol stradivari"
    ),
    "guitar": (
        "guitar ukulele banjo mandolin lute guitarist nylon sitar strum strumming picking fingerpicking fingerstyle"
        " dobro balalaika bouzouki zither oud charango guitarron tres shamisen pipa sarod cavaquinho slide twang raga"
        " arpeggione fretboard fret cowboychord capo bottleneck resonator steelguitar lapsteel persia morocco algeria"
        " tunisia arabia spaniard andalusia charmer ukelele telecaster stratocaster strat baglama saz setar rubab"
        " rabab tanbur tambura cuatro requinto vihuela cittern theorbo pedalsteel luthier veena dotar hindi bengali"
        " tamil carnatic punjab bengal pakistan nepal jangling picker plectrum cavaco bajosexto guitarra djangos camel"
        " persianess ashik mediterranean acoustique accoustic"
    ),
    "dist": (
        "distortion riff powerchord shred shredding overdrive fuzz electricguitar growl chug chugging headbang mayhem"
        " thrash metalcore deathcore grindcore sludge fuzzbox saturation feedback crunch buzzsaw metalhead metaller"
        " riffing riffage wallofsound blackmetal deathmetal djent growling"
    ),
    "synth": (
        "synth synthesizer synthesiser synthie moog analog analogue oscillator supersaw saw sawtooth modular keytar"
        " electronics juno vocoder lfo resonance detune waveform patch preset arpodyssey prophet dx7 wavetable"
        " bassstation synthlead synthline synthsound modulation polysynth monosynth minimoog synthesis korg roland"
        " yamaha arturia eurorack cutoff"
    ),
    "arp": (
        "arp arpeggio arpeggiator sequence sequencer arpeggiation pluck ostinato sequencing glitter sparkle twinkle"
        " chiming cascade flutter ripple roulade spark glimmer gleam sequencerline pingpong"
    ),
    "chip": "bleep blip bloop beep squarewave pulsewave bitcrusher bitcrush blippy pixelsound",
    "brass": (
        "brass trumpet trombone horn tuba frenchhorn cornet flugelhorn bugle fanfare brassband sousaphone trumpeter"
        " euphonium plunger cavalry regiment parade herald cavalryman battalion trumpeting salute marchingband"
        " homecoming mute shofar trombonist tubist vuvuzela alphorn conch sackbut bugler hornsection reveille"
        " tattooparade"
    ),
    "sax": "sax saxophone altosax tenorsax saxo saxaphone altosaxophone saxline",
    "choir": (
        "choir choral chorale chant vocal voice vocalist singer singing chorister monk aah ooh acapella hymn madrigal"
        " hymnal psalm barbershop doowop harmony chanting chanter chapel angel priest cathedral abbey monastery"
        " cloister church nun acappella cappella cantor cantata oratorio mass gregorian vespers evensong hallelujah"
        " carol carolling caroler saint nativity christmas advent xmas noel sleighbell bethlehem saviour savior"
        " pilgrim pilgrimage basilica mosque synagogue prayer female male alto soprano tenor baritone crooning"
        " yodelling holy spirit falsetto contralto mezzo vocalization vocalisation vocable unison worship praise"
        " devotion jesus christ christian bible religion religious catholic saintliness congregation duettist vocaloid"
        " belter yodeler harmonizer vocalise gospelchoir cleric prayerbook angelchoir faith salvation blessing blessed"
        " countertenor vox polyphony bhajan qawwali kirtan azan buddhist"
    ),
    "marimba": (
        "marimba kalimba xylophone steelpan steeldrum balafon mbira thumbpiano woodblock steelband hang handpan"
        " metallophone vibraslap congo kenya zimbabwe tanzania safari zebra hippo agogobells gyil amadinda xylo"
        " xylophonist ethiopia uganda cameroon angola mozambique somalia botswana namibia gorilla africa"
    ),
    "organ": (
        "organ hammond accordion harmonica harmonium concertina squeezebox organist bandoneon bagpipe melodica"
        " calliope barrel bellows sheng crypt paris musette fairground ferris sacristy transept nave sermon bishop"
        " pope baptism parisian montmartre eiffel baguette uilleann harmoniumist barrelorgan italianate pumporgan"
        " concertinist shrutibox melodeon bayan garmon bandoneonist gaida"
    ),
    "pad": "pad synthpad wash texture shimmer soundpad warmpad soundbed",
    "strings": (
        "string orchestralstring stringsection ensemble stringquartet pizzicato legato quartet tremolo spiccato"
        " staccato sordino divisi detache marcato glissandi octet orchestration stringed"
    ),
    "harp": (
        "harp lyre harpist koto glissando kora dulcimer guzheng zheng guqin yangqin santoor qanun cimbalom gayageum"
        " vietnam korea china japan kyoto tokyo geisha shogun haiku pagoda bonsai origami kimono cherryblossom senegal"
        " mali autoharp zitherist sanxian biwa mandarin cantonese shanghai beijing hongkong taiwan sakura zenlike"
        " ninjutsu ryukyu okinawa angklung samisen santur qin erhuist nagoya osaka"
    ),
    "bass": (
        "bass bassline bassguitar bassist lowend slap ebass bassplayer basspart slapbass bassguitarist fretless"
        " baseline"
    ),
    "synthbass": "synthbass acidbass 303 reese moogbass wobble growlbass",
    "subbass": "subbass sub 808 subwoofer lowfrequency",
    "upright": "uprightbass doublebass contrabass standupbass walkingbass",
    "drums": (
        "drum beat percussion drummer drumbeat drumming rhythm kick snare hat hihat cymbal tom backbeat break drumkit"
        " bongo conga tabla cajon tambourine percussionist clap handclap shaker bodhran djembe maraca cowbell kickdrum"
        " snaredrum fourfloor breakdown dhol timbale guiro surdo polyrhythm stomp clapping hammer gunshot timekeeper"
        " claves agogo paradiddle groovebox bang pulse metronome footstep rimshot rim blastbeat trashcan bucket"
        " batucada bateria framedrum beater heartbeat drumset drumroll darbuka dholak tambora daf mridangam pandeiro"
        " cabasa caxixi thump thud rythm drumline drumpad timpanist drumcircle tombak riq repinique cuica doumbek udu"
        " ashiko dunun handdrum kit ratchet tap click"
    ),
    "electrokit": "drummachine 909 707 linndrum drumcomputer electrodrum tr808 tr909 drumsample",
    "acoustickit": "livedrum acousticdrum rockdrum",
    "softkit": "brush softdrum",
    "taiko": (
        "taiko timpani wardrum kettledrum bigdrum epicdrum thunderdrum colossus avalanche stampeding rumble"
        " earthquake thunderclap cannonade boomers rumbling"
    ),
    "solo": "solo soloist monologue soloing unaccompaniment",
    "dance": (
        "dance dancefloor disco discotheque choreography moonwalk clubber ballroomdance zumba tiktokdance"
        " choreographer jitterbug tapdance twirl dancing dancelike"
    ),
    "orchestra": "orchestra symphony maestro conductor philharmonia orchestrator",
    "dark": (
        "darkness horror halloween nightmare villain monster ghost demon shadow tension thriller suspense mystery"
        " doom terror zombie vampire witch haunt graveyard dungeon cave abyss danger murder crime noir evil hell storm"
        " thunder apocalypse dystopia wasteland menace stealth heist detective midnight fog tomb alien guard sneak"
        " spell stormcloud thunderstorm volcano lava mine goblin spider trap bunker maze ruin swamp curse skeleton"
        " tunnel sewer trench underworld conspiracy interrogation submarine clock tick mafia assassin infiltration"
        " infection outbreak cult ritual thief robber burglar killer prison jail prisoner fear scream blood bone raven"
        " crow wolf bat serpent snake hunter hunt corpse coffin morgue asylum attic cellar werewolf poltergeist"
        " exorcism plague poison knife shotgun betrayal revenge predator shark crocodile panther tarantula wasp"
        " scorpion cockroach rat vermin slime torture dagger noose scaffold gallows execution inquisition heresy pagan"
        " druid stonehenge rune oracle voodoo seance ouija mummy sarcophagus catacomb necropolis mausoleum hearse"
        " undertaker phantom specter spectre wraith banshee ogre troll orc minion henchman villainy corruption scandal"
        " blackmail kidnapping hostage ransom sniper smuggler spyware surveillance wiretap codebreaker cipher code"
        " secret clue crimescene autopsy forensic nuclear radiation wreck shipwreck fallout quarantine virus pandemic"
        " hazard siren emergency evacuation blackout static glitch malfunction nemesis rival adversary foe enemy"
        " threat warning alley backstreet underpass parking mansion swampland bayou quicksand thicket bramble thorn"
        " gloom omen fate bear spooked wolves thieves creak creaking clank clanking chain cobweb web spiderweb"
        " dungeonmaster barking bark howl growler rot mold mildew warden cell handcuffs shipwrecked stranger suspect"
        " chaser bounty outlaw bandit ghoul fiend devil satan lucifer purgatory limbo underworldly nightfallen grudge"
        " wrath hate hatred venom drip death drug gang gangland hole crash disaster collapse collapsing gunman"
        " terrorist fugitive fraud victim risk crisis harm shock suspicion weapon cage gutter sewerage locker smoke"
        " mask masquerade keeper vault bank inspector agent operative bureau dossier evidence oath blade pistol rifle"
        " darkroom beast creature skull goth unease anxiety paranoia intrigue dissonance apprehension reaper grimdark"
        " warhammer lovecraft cthulhu eldritch backrooms sin sinner devilry jealousy envy deception trickery treachery"
        " pollution weaponry warlock necromancer lich nightmarescape manipulation oppression agony torment"
        " terrorization claustrophobia creep creeper lurker stalker intruder abomination mutant mutation parasite"
        " insect warship trapdoor syringe gargoyle moat rogue assassinate blackhole sandstorm quake menacer ghosttrain"
        " morbid stealthiness infiltrator hallucination delusion obsession addiction alcohol drunk stress trouble"
        " worry destruction abuse massacre genocide nazi labyrinth clang subterrane subterranean misanthropy"
        " armageddon doomsday villainess witchcraft abductor abduction chainsaw scythe insectoid confusion cacophony"
        " overlord tyrant tyranny stabbing insanity psychosis paranormal judgment psycho slaughter butcher horde"
        " demoness cutthroat gunslinger"
    ),
    "sad": (
        "sadness sorrow grief heartbreak melancholy tear longing nostalgia regret loss funeral goodbye farewell"
        " lament elegy tragedy loneliness solitude memory mourning requiem despair autumn rain winter rainfall drizzle"
        " leaf friend ash wound exile orphan widow rejection leaves soldier grave tombstone homesickness refugee"
        " orphanage heartache hospice hangover emptiness ember cemetery memorial tribute remembrance november october"
        " separation divorce ache pain suffering hunger poverty famine drought regretting apology forgiveness sigh"
        " puddle umbrella departure silence illness disease cancer dementia veteran survivor trauma depression guilt"
        " shame photograph keepsake failure mistake misery pity debt liar lastchance lonelyheart tearjerker scar"
        " melancholia heartstring anguish angst isolation alienation poignancy remorse lamentation reminiscence"
        " vulnerability teardrop sob weeper mourner heartbreaker gloominess yearning wistfulness nostalgic misfortune"
        " downfall disappointment frustration hardship struggle adversity homelessness loner yesterday departureday"
        " empathy sympathy compassion condolence eulogy obituary widower abandonment suicide dying deathbed refuge"
        " uncertainty hopelessness introspection fatigue exhaustion overwhelm injury tumor holocaust aging loser"
        " complaint dejection rainstorm goodnightkiss reflection insomnia ptsd overdose disability insecurity sanity"
        " defeat"
    ),
    "happy": (
        "happiness joy fun smile party celebration birthday wedding summer beach picnic holiday sunshine laughter"
        " festival carnival vacation spring puppy cheer delight bliss circus cartoon comedy breakfast success win"
        " winner toy kitten mascot bubble friendly candy cupcake unboxing quiz clown shop prize graduation reward"
        " pancake cooking recipe clumsiness monkey penguin playground school balloon lollipop icecream trampoline"
        " juggler acrobat confetti playtime bunny hamster giraffe panda elf gnome leprechaun pinata barbecue barbeque"
        " bbq cruiser giggle grin joke prank comedian slapstick sitcom clownery hooray cheerleader pom medal trophy"
        " jackpot lottery gift surprise unwrapping thanksgiving easter egg valentine newyear firework popcorn"
        " cottoncandy donut doughnut cookie cake pie chocolate lemonade smoothie snack lunch brunch kite seesaw"
        " sandbox puppet marionette puppeteer teddybear duckling chick piglet lamb foal calf bumblebee bee ladybug"
        " caterpillar hedgehog squirrel chipmunk otter koala kangaroo meerkat goat donkey pony chicken rooster hen"
        " goldfish hop skip jump hopping bounce wiggle waddle friendship buddy pal playmate neighbor neighbour"
        " neighborhood neighbourhood fair funfair amusement themepark rollercoaster waterpark splash sprinkler"
        " icecreamtruck daycare preschool learning alphabet counting craft diy superstar goofball cereal waffle"
        " sandwich pizza burger fries ketchup picnicker fruit apple banana strawberry cherry orange lemon honeybee zoo"
        " farmyard sticker crayon marker doodle kitty animation snail mouse mice grandma grandpa granny gran auntie"
        " uncle nephew niece jog money year luck fortune treasure bonus pool sugar cream juice popstar pet campsong"
        " funpark hobby craftsman costume humor humour optimism positivity enthusiasm exuberance satisfaction pleasure"
        " euphoria ecstasy silliness playfulness parody satire fart poop vacationer travel traveler traveller tourist"
        " tourism tickle wink delicious yummy sun sunny frog toad fox raccoon skunk crab lobster peacock hyena walrus"
        " seal clownfish hippopotamus meme muffin cheesecake nugget sausage bacon noodle popsicle gummy tooth teeth"
        " toothbrush bathtime cleanup tidyup toilet plushie merriment cheerfulness jollity mirth gladness carefreeness"
        " scooter tricycle bowling hopscotch bestfriend bff sweets dessert treat sundae vanilla playroom kindergartner"
        " preschooler festivity vivacity zest pep cheek whimsy quirk jest gag kawaii chibi boop food potato corn bean"
        " vegetable salad tomato mushroom steak hotdog pickle bug pork pig butt fool genius lego capybara skibidi"
        " animal gumdrop jelly peanut pretzel dumpling ramen sushi sunlight nonsense treehouse sandcastle beachball"
        " charm vibrancy meow purr pumpkin pasta lasagna carrot cabbage onion pea peach melon mango avocado guacamole"
        " bagel mustard pee diarrhea slug ant lizard alligator badger chihuahua terrier retriever absurdity doll"
        " summertime prankster caveman yeti hamburger cheddar cafeteria squid"
    ),
    "calm": (
        "calmness peace serenity relaxation tranquility spa yoga sleep rest ocean lake nature garden breeze breath"
        " stillness quietness sunset sunrise dawn morning evening forest wave stream river meadow massage zen coffee"
        " cafe library focus study studying reading healing hammock tea mountain menu field hotel fishing farming"
        " puzzle loading pause countryside sunday sea water pond window shore cabin fireplace fire candle meal bath"
        " porch boat harbor harbour walk walking lantern temple tatami monday kitchen healer deer train balance island"
        " love wellness waiting reception background dinner growth dusk twilight afternoon noon weekend home cottage"
        " cat dog rabbit horse sheep cow duck goose fisherman grandfather grandmother mother father family book novel"
        " letter diary yarn shell stone pebble moss blossom petal flower rose lily tree oak pine grass path trail"
        " bench cliff bay cove reef bridge canal lighthouse bakery bistro sofa blanket pillow patient hospital nurse"
        " doctor clinic office classroom class teacher student pottery painting painter poem poet cloudburst mill"
        " orchard vineyard harvester lamp streetlamp door hall park pier turtle koi heron swan grandparent moonrise"
        " waterfall brook creekside willow fern meadowland lavender tulip daisy sunflower orchid jasmine hive dew"
        " dewdrop breezeway seaside coastline coast beachside seashell tide dune lakeside riverside canoe kayak paddle"
        " rowboat sailboat raft barge dock jetty marina angler camp camping tent sleepingbag hike hiker hiking"
        " trekking stroll strolling bicycle cycling veranda balcony greenhouse courtyard fountain gazebo bathhouse"
        " hotspring onsen incense aroma aromatherapy acupuncture chakra breathing mindful sipping cappuccino espresso"
        " latte matcha teapot teacup toast honey bread soup stew cheese wine candlelight knitting sewing embroidery"
        " crochet weaving loom carpentry woodwork calligraphy sketch sketching watercolor watercolour canvas bookshop"
        " bookstore reader poetry prose commuter commute tram bus ferry gondola overlook lodge chalet resting doze"
        " dozing snooze slumber nightfall nightwatch stargazing routine chore laundry dishes gardening gardener"
        " watering farmhouse farmer granary grandchild sister brother daughter newborn pregnancy parent hug kiss"
        " embrace trust kindness gratitude hope grace mercy gentleness patience comfort relief softness warmth"
        " tenderness affection late drives armchair slippers couch rug carpet curtain sill vase saucer biscuit scone"
        " butter pastry croissant waiter chef lane fish skincare marketplace countrylane cosmetics lotion soap shampoo"
        " perfume bedside plant lawn yard backyard charity donation volunteer care health wellbeing steam hedge fence"
        " sidewalk shade watermill windmill sheepfold pasture grassland acceptance unity togetherness contentment ease"
        " leisure contemplation shoreline cricket grasshopper dragonfly pigeon moose elk baker barista swim swimming"
        " golf therapy therapist lover wife husband bride groom marriage anniversary mom mum dad daddy mommy mama papa"
        " brotherhood childhood flowerbed petunia blossomtime grove woods woodland riverbank creekbed rainshower"
        " teatime cocoa sweater scarf mitten socks lull weekendmorning campsite tentpole backpack backpacker lakeshore"
        " palmshade recliner sincerity simplicity gracefulness ambrosia elixir recovery rehabilitation loungechair"
        " solace equilibrium acupressure pilates stretch stretching sunbathing bathtub bubblebath wellnesscenter"
        " outdoor sand balm zephyr patter chatter driftwood conservation earthtone birdfeeder stillwater lip gardenia"
        " flowerpot springtime harborside land wisdom curiosity daybreak daylight porchlight windowsill bowl heart"
    ),
    "energetic": (
        "energy power workout gym sport race racing chase running fight battle action adrenaline training boxing"
        " aggression rage anger speed rush fury football explosion motorsport exercise rampage duel attack storming"
        " crowd blast sprint gun tank jet rocket engine riot uprising drop stunt parkour skate climb squad mission"
        " combat speedrun wrestler warpath stampede circuit motivation panic exam hurry deadline skater roller surfer"
        " surfing truck car bike motorbike wheel derby sprinter marathon tournament basketball soccer hockey wrestling"
        " karate ninja gangster shootout ambush escape escapee pursuit chasing drag superbike dirtbike motocross"
        " snowboard snowboarding ski skiing bungee skydive skydiving paraglider freerun freerunning hustle grind sweat"
        " muscle weightlifting lifting crossfit hiit cardio spinning aerobics bootcamp punch kickboxing mma knockout"
        " rematch sparring bullfight matador lightning thunderbolt turbocharge horsepower nascar rally hotrod dragster"
        " checkpoint finishline overtime penalty goal touchdown cup league liftoff takeoff dogfight airstrike"
        " artillery bomb grenade missile cannon barrage firefight assault invasion raid skirmish brawl barfight frenzy"
        " mania madness outburst eruption whirlwind tornado hurricane cyclone typhoon tsunami wildfire inferno blaze"
        " bushfire firefighter ambulance police manhunt getaway jailbreak breakout robbery wheelie burnout rolling"
        " leap dash hurdle sprinting traffic construction jackhammer sawmill steamroller assembly commando swat ranger"
        " skateboarder rollerblade rollerblading boulder climber jogging jogger skating skateboarding stealing steal"
        " force impact burn motor throttle gear strike speedboat bobsled kart karting gokart excitement intensity hype"
        " urgency momentum vigor vigour vitality dynamism ferocity turbulence tumult chaos banger rugby volleyball"
        " tennis baseball handball badminton gymnast gymnastics referee coach helicopter cheetah leopard tiger jaguar"
        " protest protester demonstration velocity stamina endurance onslaught bombardment warzone fistfight challenge"
        " challenger competition competitor contest contestant athlete athletics championship playoff quarterback"
        " striker goalie dunk slamdunk homerun relay pushup pullup squat deadlift barbell dumbbell kettlebell"
        " bodybuilder bodybuilding fitness jab uppercut crossfire collision pileup thruster turbo nitro drifting"
        " racetrack racecar racer speedway supercross powerhouse dynamo fireball detonation shockwave passion shooter"
        " fighter violence arm troop combatant clash brawler crazy flame exhilaration bullet resistance defiance"
        " runaway rivalry trainer"
    ),
    "dreamy": (
        "dream space cosmos galaxy star moon heaven cloud fantasy wonder universe nebula planet night starlight"
        " aurora fairy magic mist haze floating moonlight snow snowfall trip journey mirage crystal ice echo"
        " exploration horizon mermaid dolphin orb portal hologram comet satellite orbit glacier tundra rainbow wing"
        " feather lagoon butterfly firefly wizard enchantment air light reverberation distance glow world map sky"
        " reverb tale spaceship astronaut mars venus jupiter saturn telescope potion unicorn pegasus phoenix mirror"
        " snowflake jellyfish coral abysm constellation stardust supernova eclipse zodiac prism labyrinthine atlantis"
        " avalon earth sunbeam sunray starship asteroid meteor crater rover cosmonaut gravity orbiting quasar wormhole"
        " singularity timewarp hyperspace warp dimension multiverse parallel dreamworld dreamscape reverie hypnosis"
        " vision illusion kaleidoscope fractal lavalamp swirl spiral vortex whirlpool abyssal kelp seahorse octopus"
        " manta plankton biolume bioluminescence glowworm wish fairytale fairyland pixie nymph enchantress sorcerer"
        " sorceress wand alchemist alchemy tarot dreamcatcher amulet talisman aether ether iceberg icicle frost north"
        " siberia arctic antarctica antarctic polar iceland northernlights winterwonderland sleigh snowman snowstorm"
        " hoarfrost pearl opal sapphire emerald amethyst diamond silver halo delay echoes swirling elves falling fall"
        " quantum particle atom molecule mind imagination glass psychedelia transcendence mystique mysticism"
        " surrealism spirituality utopia wonderland infinity eternity forever allure liminal flight ufo mage"
        " illusionist sorcery stardrop subconscious consciousness unconscious psyche soulscape moth fable fantasyland"
        " faerie shoegazer kaleidoscopic purple violet indigo turquoise teal magenta lilac aquatic seabed daydream"
        " daydreamer dreamer hypnotist whirl planetarium observatory astronomer astronomy spacewalk weightlessness"
        " airglow miracle wonderment awe marvel philosophy aura fiction tapestry mosaic gaze existence phaser flanger"
        " poemlike lullabyland metaphor dreampop psybient folktronica oblivion enigma"
    ),
    "epic": (
        "hero victory war triumph adventure legend glory quest warrior king kingdom empire castle knight dragon saga"
        " conquest voyage army champion viking pirate gladiator battlefield titan samurai tribe climax crescendo riser"
        " buildup crusade emperor pharaoh pyramid colosseum fleet ship sail sailing captain siege throne dwarf"
        " ancestor monument olympics flag honor honour rome roman greece sparta troy queen prince princess banner ride"
        " horseback odyssey myth mythology prophecy destiny crown sword shield armor armour mountaineer peak eagle"
        " lion elephant dinosaur superhero avenger giant behemoth leviathan kraken hydra minotaur cyclops griffin"
        " gryphon basilisk wyvern dragonslayer swordsman archer crusader templar paladin barbarian centurion legion"
        " legionnaire phalanx cohort commander marshal admiral armada flagship galleon frigate explorer expedition"
        " frontier pioneer settler founding independence revolution revolt rebellion liberation freedom justice"
        " courage bravery valor valour sacrifice moonlanding apollo nasa everest olympia olympian zeus thor odin"
        " valhalla asgard norse god goddess genesis exodus ark babylon mesopotamia mongol khan genghis czar tsar"
        " kaiser napoleon caesar cleopatra alexander spartan trojan aztec maya inca conquistador battleship coronation"
        " procession monarchy dynasty realm domain citadel fortress stronghold rampart drawbridge watchtower tower"
        " gate portcullis catapult trebuchet lance joust final sailor egypt sphinx nile greatness achievement leader"
        " leadership heroism grandeur majesty resilience determination perseverance bravado survival humanity"
        " conqueror empowerment pride courageousness bombast warfare warmachine rebirth redemption resurrection"
        " breakthrough heroine chieftain warlord berserker valkyrie shieldmaiden ragnarok trex mammoth pilot"
        " dreadnought starfleet battlecry showdown endgame ascent ascension rise pinnacle zenith apex superheroine"
        " superpower sidekick captaincy helm mast mythos emancipation patriotism patriot homeland flagbearer podium"
        " gold fame goliath samson moses strength victor battleground soldierhood superheroes reign creed hoplite lore"
        " guardian protector elite navy ally colony anthem"
    ),
    "jingle": (
        "jingle sting stinger ident logo notification ringtone announcement alert bumper alarm countdown signoff"
        " ringback doorbell checkout login shutdown error buzzer earcon sonicbranding tada ding ping beepsound"
        " chimealert timer stopwatch popsound notificationtone successsound failsound"
    ),
    "drone": (
        "drone overtone hum om tanpura shruti undertone mantra mongolia tuva ohm hertz hz overtonesinging sustaintone"
    ),
    "electronic": (
        "city town downtown metropolis technology tech circuitry computer software data network internet server"
        " android cyborg ai gadget hacker idm glitchhop microchip mainframe terminal nanotech nanobot biotech"
        " cybernetics augmentation algorithm blockchain crypto bitcoin spaceport megacity skyscraper monorail hovercar"
        " maglev hyperloop future futurism simulation matrix vr metaverse bot mech mecha antenna radar modem fax"
        " printer scanner laptop monitor cable wifi router coder programmer developer engineer chopped chop slicing"
        " stutter cyberspace robotics hackathon hightech signal transmission electricity electron automation interface"
        " upload download glitcher sensor semiconductor transhuman transhumanism technologist supercomputer chatbot"
        " assistant hitech livecoding midi daw plugin device genome genetics gene bioinformatics bioinformatician dna"
        " debugging debugger firewall query script linux github microbe bacteria protein biochip"
    ),
    "acoustic": "trio duo duet livingroom busking fireside unpluggedsession woodenness",
    "slow": "slowmo sloth slowness crawl tortoise ballad",
    "fast": "quickness swiftness rapidfire",
}
