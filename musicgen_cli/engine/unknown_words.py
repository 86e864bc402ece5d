"""Which words of a prompt mean nothing to a model; only one with a list of words, such as nano, can tell."""

from __future__ import annotations

import functools
import re
import unicodedata

from tokenizers import Tokenizer
from tokenizers.models import WordLevel

SHOWN = 8  # at most, of a prompt's words

_WORDS = re.compile(r"\w+")

# Words that nobody expects to be heard.
_UNHEARD = """
    10th 11th 12th 16th 18th 19th 20th 21st 9th able aboard about above absolutely according accordingly across
    actively actual actually additional additionally afar after afterwards again against ago ahead aint akin albeit
    alike all almost along alongside alot already alright also although altogether always am amazing amazingly
    ambiance ambience amid amidst among amongst an and another anti any anymore anyone anything anytime anyway
    anywhere apart apparent approximate approximately apt are arent arguably around art as aside at atmosphere
    atmospheres atop audible audiocraft available away awhile back background backward backwards bad bar barely bars
    basic basically basics be beautiful beautifully beauty became because become becomes becoming bed been before
    began begin begins begun behind being below beneath beside besides best better between beyond big bigger biggest
    bilingual billions blue board body born both boy boys bpm bridge brief briefly bro broad broadly brought brown
    built but by came can cannot cant capable captivating caught central centric centuries century certain certainly
    chatgpt chiefly chord chords chosen classic cleaned clear clearly close closed closes closing co collective
    collectively color colour com common commonly comparable compelling completely comprehensive concise concrete
    consecutive consequently considerable considerably consistent consistently constant constantly continual
    continually continuous continuously copyright copyrighted correct correctly could couldnt countless couple
    creative creatively currently daily day days dedicated definitely deliberate deliberately despite did didnt
    different directly distinct distinctive distinctively distinctly diverse do does doesnt doing done dont door
    down downward drawn drive driven drives due during each early easily east ed effective effectively efficient
    effortlessly eg eight eighteen eighteenth eighth eighty either eleven else elsewhere enough enthralling enticing
    entire entirely equally er especially esque essentially est et etc etcetera even eventual eventually ever every
    everybody everyone everything everywhere evident evidently evocatively ex exact exactly excellent except
    exceptional exclusive exclusively explicit explicitly extra extreme extremely fairly familiar famous far
    fascinating favourite feelings feet felt few fewer fi fifteen fifteenth fifth fifty finally fine finger firm
    firmly first firstly five flac flair foot for foreign forth fortunate forty forward four fourteen fourteenth
    fourth freely frequency frequent frequently friday fro from front full fully fundamentally further furthermore
    game gave general generally generic genuine genuinely get gets getting girl girls given go goes going gone gonna
    good gorgeous got gotta gotten gradual gradually great gripping had halfway hardly has have havent having he
    heavily hello hence her here hereby heres hers herself hes hey hi high higher highly him himself his homage
    horizontal how however http https huh hundred hundreds hundredth iconic id ideal ideally identical ie if im
    immediate immediately immersive impactful important impressive in inaudible inc inclusive incredible incredibly
    indeed indefinite indefinitely individual individually ing inherent inherently initial initially inner ins
    inside inspired instant instantly instead instrument instrumental instrumentally instrumentals instrumentation
    instruments integral interestingly intermittently internal into intriguing inward irregular is ish isnt it its
    itself ive jr just kbps kept khz kidz knew know knowing known knows laden ladies lady laid large largely larger
    last lastly lately later latter least led left lengthy less lest likely likewise listen literally little lived
    lives living ll local locally log long longer loop loopability loopable looped looping loosely lot lots lovely
    low lowest ly lyricless made mainly man mans many massively max maximum may maybe me meant meanwhile meet
    meeting meets melodic melodical melodically melodious memorable men mentally mere merely mid midrange might
    million millions min mini minimum mins miscellaneous model momentarily mono month months more moreover most
    mostly motion movement mp3 mr mrs ms much multi multilayered multiple music musical musicgen must mutual my
    namely native nd near nearby nearly necessarily necessary neither neo never nevertheless new newer next nicely
    nine nineteen nineteenth ninety ninth no nobody non nonetheless normally not notable notably noteworthy nothing
    noticeable noticeably now nu obvious obviously occasional occasionally odd of off often oh ok okay old older
    oldest on once one ones ongoing only onto openai opposite optional optionally or org organized oriented
    originally other others otherwise ought our ours ourselves out outer outright outside outward over overlaid
    overly partial partially particular particularly partly past per perfect perfectly perhaps periodically
    permanent permanently person personal personally persons physically plain plainly playlist playlists please
    plenty plus popular possible possibly potential potentially pre precise precisely predominantly presently pretty
    previous previously primarily primary prime prior pro probably professionally prominent prominently promptly
    proper properly public purely quite rare rarely rather rd re readily ready real really recent recently
    recognizable red regarding regardless regular regularly relative relatively relevant remarkable reminiscent
    repeatedly respective respectively riffusion right rn room roughly royalty rung said same say saying says
    seamless seamlessly sec second secondary secondly seconds secs see seeing seen sees seldom self sent separately
    sequential seven seventeen seventeenth seventh seventy several shall she short shorter shortly should shown
    significant significantly similar similarly simply simultaneous simultaneously since single singular sir sis sit
    sits sitting six sixteen sixteenth sixth sixty skin slight slightly so social sole solely some somebody somehow
    someone someones something sometimes somewhat somewhere sonic sonically soon south spacing special specific
    specifically spent spoke spoken spontaneous sporadically st still straight straightforward strict strictly
    striking strongly structural studio stylistic stylistically sub subsequent subsequently substantial
    substantially successful successfully such sudden suddenly sufficient sufficiently suitable suno super superb
    supposed sure surely surprising surprisingly taken taught team technically temporarily temporary ten tenth th
    than that thats the their theirs them themselves then there thereafter therefore therein theres these they theyd
    theyll theyre theyve third thirteen thirteenth thirty this thorough thoroughly those though thousand thousands
    three through throughout thru thus til till to today todays together told tomorrow tonight too took total
    totally toward towards trans true truly tuesday twelfth twelve twentieth twenty twice two typical typically udio
    ultimately ultra un under understood unexpected unexpectedly unfamiliar unforgettable uniform unique uniquely
    unknown unlike unlikely unlooped unmastered unmistakable unmistakably until unusual unusually up upon upper ups
    us usual usually valid valuable various versatile versus vertical very via vibe vibes visible visual visually
    vital vs wake wall wanna was wasnt wav we wednesday well went were werent west weve what whatever whats when
    whenever where wherever whether which whichever while whilst white who whoever wholly whom whos whose why widely
    will willing with within without woman womans women wonderful wont worth worthy would wouldnt woven written
    wrong www ya yeah years yes yet you youd youll young your youre yours yourself youve zero
""".split()  # noqa: SIM905  # easier to read and to add to

# The same in any form: `feature` stands for `features`, `featured` and `featuring`, too.
_UNHEARD_STEMS = """
    ability accompaniment accompany account achieve act activity add addition adjective adopt adult afford agree aim
    album align allow alternate amateur amount anchor angle answer anticipate appeal appear application apply
    approach area argument arrange arrangement array arrive artifact artist artistry artwork ask aspect assembly
    asset assist assistance attempt attention attract attribute audience audio availability avoid backbone balance
    band base basis beginner beginning behavior believe belong benefit bind bit blend block boast border borrow
    bottom bound boundary box branch breadth break bring buy call caption capture carry case cast catalog catch
    categorize category cause ceiling center chair challenge change channel characteristic characterize check choice
    choose circle claim client clip clothes cluster collection combination combine combo come comment commentary
    communicate compare comparison complement complete completion complexity component compose composition concept
    conclude condition configuration conjure connect connection consequence consider consist constraint contain
    content context continue contour contrast contribute contribution control convergence conversation convert
    convey copy core corner counterpart cover craft create creation creativity creator cross cue culture cut dataset
    deal decade decide deepen define degree deliver delivery demand demonstrate depict deploy depth describe
    description deserve design desire destination detail develop differ difference dimension direct direction
    discount discover discretion discuss display distinction distribution dive diversity document dominate dose
    double downbeat download draw dress drink dude duration eat edge edit edition editor effect effort element
    elevate embed embody emerge emotion emphasis emphasise emphasize employ enable encapsulate encompass encounter
    end ending engage engineer enhance enrich ensure enter entirety entity entry envelop equal era essence essential
    establish establishment event evoke evolve examine example exception excerpt exchange exist expand expect
    expectation experience experiment expert explain explanation explore express expression extend extension extent
    eye face fact factor fan favor favorite feature feed feel fidelity figure file fill find findings finish fit fix
    flavor flavour floor focus folder follow foreground form format formula foster found foundation fragment frame
    framework function fundamental fuse fusion gain gather generate generation generator genre give grab ground
    group grow guest guidance guide guideline guy hair half hand handle happen head headphone hear help highlight
    hint hit hobbyist hold hook host hour human hybrid idea identify identity illustrate image imagine imbue imitate
    impact implement implication imply import importance impression improve include inclusion incorporate increase
    indicate induce influence information infuse ingredient inspiration install instance instruct instruction
    integrate intend intent intention interact interaction interest interface interject interlace interlock
    interplay interpret interpretation intersperse intertwine interval interweave intro introduce introduction
    invite invoke involve issue item job join judge juxtapose keep key kind knowledge label lace language lay layer
    layout lead learn leave lend length lens lesson let level license lie life lifetime lift like limit line link
    list listener listening literal load locate location lock look lose lower lyric lyricist main maintain make
    maker manage manager manipulate manner mark master mastering match material matter mean meaning measure meld
    melody member mention merge mesh message metadata meter method mic microphone middle mimic mingle minute mirror
    miss mix mixture mode moment mood motive mouth move multiply multitude musicality musician name need norm nose
    notation note notice notion nuance number object objective observe occasion occur offer open opinion optimize
    option order origin original outcome outline output outro overall overlap overlay overview own owner pace
    package page paint pair palette pan panel pant paper paragraph parameter part participant partner pass passage
    pattern pay peak pen people pepper perception perform performance performer period permission perspective phase
    phenomenon pick picture piece pitch place placement plan platform play player point portion portray portrayal
    position possess possibility post practice precede prediction prefer preference premise prepare presence present
    preserve press prevent preview price principle priority problem process produce producer production professional
    profile program progress project promise prompt pronounce proof property propose prosody protect prove provide
    publish publisher pull punctuate purpose push put quality quantity question quote range rate ratio reach react
    reaction read realize reason recall receive recipient recommend recommendation record recording reduce refer
    reference refine reflect refrain region register reimagine reinforce related relation relationship release
    remain remember remind reminder remix remove render repertoire replace report represent representation reproduce
    request require requirement research resemble reserve resolution resolve resource respond response restriction
    result retain return reveal revisit revolve richness role roll root route row rule sake sample satisfy save
    schedule scheme scope score search section sector seek seem segment select selection sell send sensation sense
    sensibility sentence sentiment separate series serve service session set setting setup shape share shelf shift
    shirt shoe shot show showcase side sight sign signature significance signify similarity simulate situation size
    skill slot smell snippet solution solve song sort sound source speak speaker specify spectrum speech spend split
    spot spread stack staff stage stake stamp stance stand standard start state statement stay stem step stereo
    stick stop strain strip stroke structure struggle stuff style subgenre subject submit subscription substance
    suggest suggestion suit sum summary supply support surface surround switch symbol symbolize sync system table
    tag take talent talk target task taste technique tell tempo tempt tend tendency term terminology test text thank
    theme thing think thought throw tie time tinge title tonality tone tool top topic touch trace track trait
    transcribe transfer transform transformation translate translation treat treatment trigger try tune turn twist
    type underline underpin understand unfold unify unit update upload usage use user utility utilize value variable
    variant variation variety vary versatility verse version videoclip view viewer viewpoint visit vocabulary voice
    wait want watch way wear weave week weight welcome whole wish witness word work workday workflow wrap write
    writer writing yield zone
""".split()  # noqa: SIM905


def unknown_words(tokenizer: Tokenizer, prompt: str) -> list[str]:
    """Return the words of a prompt that the tokenizer of a model doesn't know, without repeats."""
    if not isinstance(tokenizer.model, WordLevel):
        return []
    unknown = tokenizer.token_to_id(tokenizer.model.unk_token)
    text = _normalized(tokenizer, prompt)
    ids = tokenizer.encode(prompt, add_special_tokens=False).ids
    words = [word.strip(".,;") for word, id_ in zip(text.split(), ids, strict=False) if id_ == unknown]
    # The tokenizer makes `gro` and `e` of `größe`; the word is named as it was typed.
    typed: dict[str, str] = {}
    for word in _WORDS.findall(prompt):
        for part in [word.lower()] if word.isascii() else _normalized(tokenizer, word).split():
            typed.setdefault(part, word.lower())
    words = [typed.get(word, word) for word in words]
    words += filter(_is_foreign, _WORDS.findall(prompt))
    return [word for word in dict.fromkeys(words) if word and not is_unheard(word)]


def is_unheard(word: str) -> bool:
    """Return whether nobody expects to hear a word, in lower case, in the music."""
    return len(word) == 1 or word.isdecimal() or word in _unheard()


@functools.cache
def _unheard() -> frozenset[str]:
    """Return the words that nobody expects to be heard, in all their forms; some of these are no words."""
    forms = set(_UNHEARD)
    for stem in _UNHEARD_STEMS:
        shorter = stem.removesuffix("e") if stem.endswith("e") else stem.removesuffix("y") + "i"
        forms |= {stem, *(f"{stem}{ending}" for ending in ("s", "es", "d", "ed", "ing"))}
        forms |= {f"{shorter}{ending}" for ending in ("es", "ed", "ing")} if stem[-1] in "ey" else set()
        forms |= {f"{stem}{stem[-1]}{ending}" for ending in ("ed", "ing")}
    return frozenset(forms)


def _normalized(tokenizer: Tokenizer, text: str) -> str:
    return text if tokenizer.normalizer is None else str(tokenizer.normalizer.normalize_str(text))


def _is_foreign(word: str) -> bool:
    """Return whether a word has no Latin letter or digit: the tokenizer of nano drops it."""
    return not re.search(r"[a-zA-Z0-9_]", unicodedata.normalize("NFKD", word))
