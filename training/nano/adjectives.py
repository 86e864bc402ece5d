"""Adjectives and all other words that are neither nouns nor verbs, by the concept that they stand for."""

from __future__ import annotations

ADJECTIVES = {
    "ambient": (
        "atmospheric spacious droning oceanic zenlike newagey ambiental formless shapeless beatless drumless"
        " environmental drony gusty windy airborne windblown humid rustling chirruping"
    ),
    "techno": (
        "ravey clubby mechanical metallic squelchy industrial robotized ravelike trancelike thumpy minimalistictechno"
        " hitech mechanized ravin hardtrance"
    ),
    "jazz": (
        "jazzy swinging bluesy swingy smoky sultry muted swung noirish swingin tipsy loungy sophisticated classy"
        " improvised improvisational improvisatory scatted bebopping jazzed noirlike 1920s 1930s 1940s 20s 30s 40s"
        " twenties thirties forties raspy husky whiskeyed cocktaillike debonair dapper suave shuffling blues bluesier"
    ),
    "classical": (
        "mozartian orchestrated elegant courtly impressionist stately aristocratic refined viennese operatic"
        " virtuosic polyphonic contrapuntal ornate baroquelike virtuoso mozartlike haydnesque italian imperialistic"
        " chivalric ornamental lyrical cantabile waltzing fugal genteel gracious graceful formal posh"
    ),
    "rock": (
        "rocking grungy punky gritty bratty snotty alt indie rockin goth britpoppy hardrock 1960s sixties 1950s"
        " fifties 50s angsty shouty scuzzy snarly sneering oldies"
    ),
    "folk": (
        "folky folksy rustic rural irish scottish countryside pastoral appalachian celtic medieval hawaiian andean"
        " nordic scandinavian balkan gaelic welsh traditional tribal american russian ukrainian polish hungarian"
        " romanian serbian bulgarian greek turkish jewish israeli welshfolk breton galician alpine swiss austrian"
        " bavarian german dutch swedish finnish norwegian danish czech slavic texan western homespun humble hearty"
        " ancestral earthbound countrified twanging bohemian nomadic tradlike handcrafted irishlike swampy southern"
        " midwestern outlaw agrarian wooded barefoot ethnic indigenous cultural ukranian drunken drunk native regional"
        " communal"
    ),
    "chiptune": "8bit 16bit 8bits retrogame pixelated chippy 8bitlike nintendolike gamelike lowres",
    "cinematic": (
        "filmic theatrical movielike underscored panoramic widescreen cinematographic scenic historical biographical"
        " serious informative factual journalistic thematic dramaturgical narrative scored documentarian televised"
        " cinematical filmlike political educational episodic academic lawful archival economic capitalist"
    ),
    "hiphop": (
        "urban rapping streetwise boomy rapped gangsterish boastful freestyled ghettoblasting hoodlike bossy swaggering"
    ),
    "pop": (
        "poppy mainstream catchy radiofriendly corporate fresh stylish trendy commercialized polished viral trending"
        " youthful girly confident luxurious glossy chartlike singable radioready earwormy hummable anthemlike airplay"
        " teenlike bubblegummy marketable influencerlike photogenic charismatic fashionable"
    ),
    "synthwave": (
        "80s 1980s eighties retrofuturistic neon miami vhs retro italo gated retrofied retrolike retrosynth 1984"
        " futuristicretro"
    ),
    "latin": (
        "brazilian cuban spanish mexican hispanic argentinian tropical caribbean portuguese flamencoish peruvian"
        " bolivian chilean colombian venezuelan puertorican haitian polynesian summery exotic iberian catalan"
        " andalusian ecuadorian dominican panamanian antillean creole carioca tropic sunbaked carribean"
    ),
    "funk": (
        "funky soulful groovy 70s 1970s groovin grooving seventies nigerian syncopated sassy sexy slinky greasy slick"
        " cool cheeky sensual seductive funked 70ies strutty flirtatious flirty raunchy soulfull erotic"
    ),
    "reggae": "reggaelike jamming rastafarian skanky ganja irie",
    "calm": (
        "calming peaceful peacefully relaxing relaxed relax relaxingly gentle gently soft softly soothing quiet"
        " quietly tranquil mellow serene serenely chill chilled restful light lightly delicate delicately sleepy"
        " breezy tender tenderly warm warmly easygoing laidback smooth smoothly subtle understated unhurried"
        " comforting cozy cosy minimal minimalist minimalistic sparse sparsely hushed subdued placid intimate balmy"
        " lazy unwinding meditational pianissimo sweet sweetly lulling pleasant bland clean green muffled slumbering"
        " dusty distant small silent pastel slowed sleeping velvety creamy simple resonant minimalism waiting deep"
        " comfy snug cushy plush silky satin satiny whispering whispered flowing gliding rippling lapping babbling"
        " trickling dripping swaying grounded centered balanced harmonious caring loving affectionate faithful"
        " trusting restorative nourishing leafy grassy mossy flowery floral blooming herbal fragrant moonlit candlelit"
        " firelit homely domestic uncomplicated unobtrusive discreet neutral ordinary everyday casual idle idling"
        " lounging wandering meandering ambling pondering musing thoughtful curious inquisitive studious scholarly"
        " bookish steadying sober sane safe secure comfortable nice easy softened quieter gentler warmer healthy"
        " careful lulled therapeutic refreshing refreshed mellifluous euphonious dulcet softening soothed soothingly"
        " meditatively languid languorous sedate docile tame mild mellowed cushioned cottony hushing blissed content"
        " contented fulfilled settled becalmed slumberous drowsy dozy hibernating sincere earnest honest modest"
        " sensitive compassionate tranquilizing composed collected rested recharged sheltered shady sunwarmed lukewarm"
        " mindful fond cherished cherishing beloved dear reassuring reassured unassuming unpretentious unfussy"
        " uncluttered airier breathy pillowy powdery zen chillaxed vacationing hydrating botanical medicinal spalike"
        " homey bedside seated reclining barefooted symmetrical nurturing private married romantic loved whispery"
        " tasteful outdoors coastal daytime smokefree meaningful shy mundane wise murmured contemplative meditative"
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
        " delighted delighting elating amusing amused entertaining enjoyable enjoying ridiculous absurd satirical"
        " sarcastic ironic boisterous vivacious infectious addictive nerdy dorky geeky ebullient effervescent jokey"
        " prankish impish puckish elfish cartoonish cartoony slapsticky clownish circuslike sunshiny sunbright"
        " pleasing pleasurable winsome sugarcoated candied caramelized tasty yummy delicious scrumptious christmassy"
        " partylike upbeatness lovestruck smitten loony kooky daft nutty bonkers whacky quacky squeaky puffy plump"
        " chubby roly tickly prancing prancy frolicking frolicsome gamboling boppy hoppy footloose dandy spiffy neat"
        " rosy yellow pink orangey rainbowy technicolor candylike toylike playschool childfriendly kidfriendly jammy"
        " cheered heartening cheersome feelgoody sanguine upward uplifted hooray yay wow yippee welcome honking bumbly"
        " blithe crazy stupid dumb animated eccentric fancy clever squeaking splashing unserious rude irresistible"
        " hungry poopy cringe funy"
    ),
    "dark": (
        "ominous mysterious tense spooky scary brooding eerie gloomy suspenseful sinister menacing haunting haunted"
        " creepy mystical darker darkest grim unsettling disturbing foreboding gothic bleak shadowy dystopian"
        " threatening nightmarish macabre cold murky occult frightening apocalyptic uneasy dissonant moody twisted"
        " demonic hellish deadly secretive stealthy harrowing nervous anxious paranoid stormy sneaky sneaking ticking"
        " strange alien ancient undead sinking murmuring claustrophobic industrialized echoey egyptian arabic persian"
        " arabian monstrous creeping suspended lurking underground dim growling cursed rotten toxic poisonous venomous"
        " bloody ghostly spectral ghastly ghoulish wicked vicious cruel savage villainous nefarious diabolical"
        " infernal satanic unholy forbidden hidden unseen suspicious dodgy criminal lethal fatal dangerous hazardous"
        " perilous risky desperate doomed hopeless ruined decaying decayed crumbling rusty rusted grimy dirty sunless"
        " black shadowed veiled enigmatic cryptic uncanny weird bizarre unnerving chilling bloodcurdling alarming"
        " panicked panicky distressed disturbed insane mad crazed psychotic deranged possessed feral predatory"
        " stalking prowling hunting looming impending approaching advancing encroaching suffocating oppressive"
        " dreadful terrifying terrified horrifying horrific grotesque hideous monolithic spookier scarier creepier"
        " deeper illegal deadened collapsed brutalist apprehensive fearful afraid scared petrified jittery skittish"
        " dreary dismal murderous homicidal bloodthirsty carnivorous fanged clawed slithering slimy skeletal"
        " cadaverous sepulchral tomblike abyssal stygian moonless starless inky ebony sooty charred ashy smoldering"
        " smouldering brimstone fiendish devilish devious deceitful treacherous traitorous heartless soulless corrupt"
        " corrupted tainted defiled festering putrid rancid foul noxious radioactive contaminated infected infested"
        " plagued pestilent sickly feverish delirious hallucinating disorienting disoriented dizzying contorted"
        " deformed mangled mutilated severed impaled tortured chained shackled caged imprisoned trapped buried"
        " entombed sealed masked cloaked hooded shrouded eldritch unfathomable unspeakable unknowable lovecraftian"
        " hexed vengeful spiteful hateful malevolent malicious malignant malign pernicious insidious portentous"
        " doomladen grievous stern austere severe forbidding unforgiving unwelcoming hostile inhospitable barren"
        " derelict deserted uninhabited ravaged postapocalyptic atonal cacophonous discordant dissonance jarring"
        " grating shrill screechy piercing unsettled evil sinful damned accursed deathly mortal stealth tenser tensest"
        " scariest darkening blackened gothlike vampiric vampirelike wolfish zombielike unquiet clandestine covert"
        " undercover incognito guarded wary cautious crimson terrible horrible worst nasty ugly subterranean"
        " misanthropic serpentine worried stressful stressed labyrinthine cunning suicidal unhinged"
    ),
    "sad": (
        "sadly melancholic emotional emotionally lonely nostalgic somber sombre bittersweet sorrowful reflective"
        " wistful heartbreaking depressing depressed tragic touching mournful poignant yearning pensive plaintive"
        " downcast heartfelt introspective grieving forlorn rainy weeping tearful desolate melancholically sentimental"
        " regretful hurt broken aching doleful dejected unhappy crying wintry autumnal lost longing homesick lamenting"
        " losing abandoned rueful mournfully teary longingly empty faded lonesome solitary isolated separated"
        " estranged betrayed defeated fallen failing failed wounded bruised scarred fragile vulnerable helpless weary"
        " tired exhausted worn hollow numb grey gray ashen faint dying dead departed bereaved funereal elegiac"
        " contemplating remembering unrequited hurting resigned wilted withered sadder lonelier disappointed sorry"
        " breaking poor unlucky ill sick homeless unloved unwanted melancholious anguished tormented heartbroken"
        " brokenhearted heartsick bitter remorseful regretting sobbing wept cried tearstained mourned downbeat"
        " downhearted crestfallen glum morose sullen dispirited despondent inconsolable joyless cheerless friendless"
        " loveless forsaken forgotten neglected lovelorn jilted alienated existential depressive miserable pitiful"
        " pained tormenting cathartic emotive evocative moving tearjerking gutwrenching wrenching soulsearching"
        " lamentable woeful dolorous dirgelike funerary posthumous bygone dwindling withering wilting dissolving"
        " disillusioned disenchanted unresolved unspoken unfulfilled unsaid drained burdened brittle shattered cracked"
        " crushed unwell anemic pale grayish bluer sombrely overwhelmed difficult painful divorced unemployed upset"
        " deteriorated stuck frustrated raining aging insecure addicted unworthy misunderstood ignored lonelyness"
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
        " rugged muscular brawny sweaty athletic sporty active hyperactive restless impatient eager hyped pumped amped"
        " turbocharged supercharged volcanic electrified wired caffeinated nonstop breathless pressing pushing"
        " propulsive insistent incessant merciless ruthless violent warlike militant combative confrontational defiant"
        " anarchic unruly loose hot sizzling scorching burning flaming rough harsh blaring fastmoving excited"
        " exhilarating exhilarated invigorating stimulating emphatic forceful energised frenzied turbulent tumultuous"
        " blistering searing raucous riotous feisty zealous passionate vehement ardent fervent impassioned rapidfire"
        " agressive energic enegetic hardened loudest louder bombarding battering bruising punishing pummeling"
        " stampeding rampaging unrelenting unremitting highoctane overexcited unbridled unleashed unchained untamed"
        " bestial aggro livid enraged outraged irate seething mutinous dissident revolutionary disruptive scrappy"
        " agile nimble championship stompy thrashing thrashy ripping deafening thundery bustling rushed pressured"
        " imminent detonating rocketing bangin heavyweight beefy potent robust sturdy fearsome ballsy badass kickass"
        " rad nervy edgy daredevil stunting warmup sweatier fitter powerfull shooting overwhelming alive riding"
        " assertive"
    ),
    "dreamy": (
        "dreamily hypnotic ethereal lush hazy airy magical cosmic surreal psychedelic trippy shimmering celestial"
        " otherworldly floaty weightless enchanting enchanted mesmerizing mesmerising spacey heavenly angelic"
        " reverberant glowing gauzy sublime transcendent spiritual sacred mystic iridescent blurry drifting astral"
        " interstellar galactic starry dreamlike nocturnal underwater hallucinatory infinite wondrous reverby snowy"
        " icy elven crystalline spatial glassy vast soaking watery impressionistic misty foggy wide spiraling"
        " spiralling whirling twirling hovering levitating boundless endless eternal timeless ageless lunar solar"
        " stellar planetary extraterrestrial unearthly supernatural fantastical fantastic mythical mythic fabled"
        " faraway remote northern frozen frosty frigid wintery silvery pearly opalescent translucent transparent"
        " luminous luminescent phosphorescent bioluminescent glimmering gleaming glistening flickering fluttering"
        " undulating submerged sunken cavernous delayed blurred hazed nebulous vaporous ephemeral fleeting elusive"
        " intangible abstract experimental unreal imaginary imagined visionary prophetic hypnotized entranced"
        " spellbound bewitched gorgeous evolving morphing shifting transforming hypnotizing hypnotised transcendental"
        " spacy interdimensional interplanetary intergalactic alluring entrancing spellbinding beguiling bewitching"
        " mystifying kaleidoscopic prismatic hallucinogenic lysergic woozy wavy aquatic submarine misted clouded"
        " cloudy cloudlike gossamer diaphanous wispy sheer incandescent starlit moonbathed moonlike twilit dawnlike"
        " nightly nighttime liminal subliminal subconscious unconscious lucid somnambulant dreamt dreamed symbolist"
        " faerie fairylike elfin elvish sylvan arcane esoteric alchemical wizardly sorcerous illusory phantasmal"
        " phantasmagoric seraphic cherubic numinous pantheistic shamanic psychoactive mindbending mindexpanding"
        " reverbed reverberated echoed echoplexed floatier lofty airlight purple azure cerulean aquamarine opaline"
        " glittery shimmery twinkly glistering magicked breathtaking stunning exquisite timeworn futuristicdream"
        " utopian idyllic paradisiacal edenic lilting poetic profound philosophical melting drenched soaked"
        " intoxicating dazzling gazing metaphysical psychadelic entwined"
    ),
    "epic": (
        "heroic heroically dramatic dramatically triumphant grandiose majestic adventurous inspiring inspirational"
        " monumental anthemic victorious noble glorious mighty soaring stirring bombastic regal royal legendary"
        " colossal gigantic towering sweeping thunderous brave courageous ceremonial proud imposing huge national"
        " rising marching dwarven sailing olympic grand progressive viking imperial enormous immense tremendous"
        " gargantuan titanic earthshaking groundbreaking ultimate supreme decisive climactic culminating growing"
        " mounting ascending climbing conquering invading commanding authoritative dignified solemn honorable"
        " honourable valiant gallant chivalrous knightly patriotic military martial crusading warring battling"
        " undefeated unbeaten unbroken unyielding immortal godlike divine mythological biblical mayan incan bigger"
        " grander magnificent spectacular awesome impressive outstanding global worldwide international universal"
        " gladiatorial empowering empowered overcoming triumphal unconquered unconquerable indomitable steadfast"
        " resolute determined resilient persevering unwavering selfless herculean homeric wagnerian cosmicepic"
        " cataclysmic worldending earthshattering kingly queenly princely crowned enthroned anointed exalted hallowed"
        " venerable prehistoric jurassic primeval primordial elemental tectonic mountainous oceanwide seafaring"
        " nautical piratical swashbuckling buccaneering armored armoured shielded ovation largerthanlife widescale"
        " largescale grandest greatest mightiest boldest resounding statuesque vaulted expansive widereaching skyward"
        " heavenward ascendant ascended uprising unifying united heroes"
    ),
    "slow": (
        "slowly slower downtempo adagio lento largo unhurriedly lethargic sluggish slowest dragging andante"
        " lentissimo slowcore crawling plodding leisurely larghetto adagietto slowpaced winding slowing lazily"
        " largamente unrushed sleepwalking plod sustained held rubato ritardando slowmotion languishing dawdling"
        " trudging lumbering slogging glacial halting grave lentando calando"
    ),
    "medium": "moderate moderately midtempo moderato steady average normal mediumtempo midpaced walkingpace",
    "fast": (
        "quick quickly faster rapid rapidly uptempo fastpaced allegro presto vivace brisk speedy hurried swift"
        " breakneck fastest prestissimo galloping swiftly quicker accelerated briskly allegretto hasty hyperspeed"
        " frenetic accelerating speedier quickest zooming whizzing speedrunning hyperfast superfast lightningfast"
        " quickfire vivo stretto accelerando hastily"
    ),
    "major": "maj dur ionian lydian mixolydian",
    "minor": "moll aeolian dorian phrygian locrian",
    "electronic": (
        "electronically electric digital computerized technological futuristic synthetic robotic programmed cyber"
        " scifi synthesized synthesised chrome glitchy mobile binary cybernetic algorithmic automated artificial"
        " virtual wireless robotical digitized digitised bleeping glitched vocoded sidechained advanced automatic"
        " mathematical scientific technical sliced stuttering stuttered techy techie vocoderized autotuned quantized"
        " computergenerated computational cybernetical bionic robotlike androidlike interfacing online encrypted coded"
        " wirelessly digitalized pixelbased metaversal innovative pioneering cuttingedge stateoftheart electrical"
        " magnetic ionic electrostatic electromagnetic glitchlike datamoshed genetic genomic molecular whirring"
    ),
    "acoustic": (
        "acoustically unplugged organic woody earthy natural bamboo wooden handmade handplayed wood acoustical"
        " accoustic acustic unamplified handplucked fingered"
    ),
    "piano": "keys ivories pianistic pianolike keyboardy",
    "solo": "lone alone unaccompanied soloing soloed",
    "strings": "bowed violins cellos violas stringed violinlike bowing stringy orchestralstrings",
    "drums": (
        "percussive rhythmic rhythmical clapped stomped polyrhythmic drummed beaten tapped thumped rattled drummy"
        " percussively clattering thudding fills rolls drumbased backbeaty polyrhythmical cymballed tambourined"
        " rythmic rhytmic rhythmically"
    ),
    "softkit": "brushed",
    "dist": (
        "distorted overdriven crunchy fuzzy shredded djent scorched snarling gnarly filthy sludgy distorting fuzzed"
        " fuzzedout crunching overdriving sludgey doomy blackmetal detuned palmmuted chugged thrashmetal metallike"
        " amplified"
    ),
    "synth": (
        "synthy synthlike synthesizerlike analogsounding oscillating modulating buzzy buzzing buzzsawlike laserlike"
    ),
    "arp": "arpeggiated plucky sequenced arpeggiating plinky cascading tinkling twinkling tinkly plinking plonking",
    "chip": "bleepy beeping pixely bleepbloop",
    "choir": (
        "sung choral wordless liturgical religious churchlike devout prayerful sang harmonized harmonised harmonizing"
        " vocalized vocalised choirlike hymnlike psalmic ecclesiastical clerical monastic papal worshipful"
        " congregational sacramental gospelly layeredvocals backingvocals belted yodelled yodeled crooned hummed"
        " singsong christian buddhist hindu devotional vocally ah"
    ),
    "brass": "brassy trumpeted brasslike hornlike tooting",
    "bass": "bassy basslike slapped lowdown subby",
    "dance": "danceable dancing",
    "orchestra": "orchestral symphonic philharmonic symphonically orchestrally",
    "house": "skippy glamorous progressivehouse glitzy ritzy clubready nudisco ravehouse chic",
    "drone": "overtoned droney humming binaural tibetan mongolian guttural",
    "violin": "fiddled",
    "harp": (
        "japanese chinese oriental asian korean vietnamese senegalese malian harplike heavenlyharp mandarin cantonese"
    ),
    "guitar": (
        "indian hindustani fingerpicked moroccan middleeastern eastern bollywood punjabi strummed fingerstyled"
        " fingerplucked picked nepalese pakistani bengali rajasthani moorish"
    ),
    "marimba": (
        "african balinese ghanaian kenyan zimbabwean congolese plunking knocking tapping ethiopian ugandan"
        " cameroonian angolan woodentoned"
    ),
    "lofi": (
        "tapey grainy warped scratchy crude lofied tapeworn nostalgialike underwatery crackly hissy bitreduced hissing"
    ),
    "flute": "feathery birdlike whistly fluting reedy pipey breathyflute",
    "vibraphone": "indonesian thai javanese",
    "organ": "churchy",
    "pad": "washy blanketing enveloping",
    "lullaby": "cradled cradling motherly maternal swaddled tuckedin babyish",
    "taiko": "cannonlike",
    "jingle": "tada",
}
