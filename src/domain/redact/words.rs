//! Whether a run of characters was made by chance or by people.
//!
//! What people name has syllables: `AWSServiceRoleForSupport`, `s3_bucket_public_access`. Chance
//! has capitals, digits and consonants in any order. Measured over every identifier, path and URL of
//! Prowler's source on one side and random strings of each alphabet on the other.

/// Letters and digits that a run has at least to be judged by its own look.
pub(super) const SHORTEST: usize = 20;
/// Hexadecimal digits of a run that is no identifier of a thing: most have 24 or fewer.
const HEX: usize = 32;

/// Whether a run looks random, whoever stands around it.
pub(super) fn is_random(run: &str) -> bool {
    let look = Look::of(run);
    look.letters_and_digits >= SHORTEST
        && (look.long_hex
            || look.noise >= 12
                && look.kinds >= 2
                && look.turns * 10 >= look.letters_and_digits
                && (look.noise * 10 >= look.letters_and_digits * 3
                    || look.turns >= 6 && look.noise * 5 >= look.letters_and_digits))
}

/// Whether a value looks like no word, beside words that promise a secret.
pub(super) fn is_odd(value: &str) -> bool {
    let look = Look::of(value);
    is_uuid(value)
        || value.len() >= 16 && value.bytes().all(|byte| byte.is_ascii_hexdigit())
        || look.letters_and_digits >= 8
            && look.kinds >= 2
            && look.noise >= 6
            && look.noise * 2 >= look.letters_and_digits
}

/// Whether a text is a UUID.
pub(super) fn is_uuid(text: &str) -> bool {
    uuid::Uuid::try_parse(text).is_ok() && text.contains('-')
}

/// What a run looks like.
#[derive(Default)]
struct Look {
    letters_and_digits: usize,
    /// Letters of no syllable, and digits among them.
    noise: usize,
    /// How many of capitals, small letters and digits there are.
    kinds: usize,
    /// How often one kind follows another, but for a word's capital.
    turns: usize,
    long_hex: bool,
}

impl Look {
    fn of(run: &str) -> Self {
        let mut look = Self::default();
        let mut kinds = [false; 3];
        for part in run.split(|c: char| !c.is_ascii_alphanumeric()) {
            let hex = part.bytes().all(|byte| byte.is_ascii_hexdigit());
            let mixed = part.bytes().any(|byte| byte.is_ascii_digit())
                && part.bytes().any(|byte| byte.is_ascii_alphabetic());
            if hex && mixed {
                look.long_hex |= part.len() >= HEX;
                if part.len() >= 6 && part.len() < HEX {
                    continue;
                }
            }
            look.letters_and_digits += part.len();
            let chunks = chunks(part);
            let noise = chunks
                .iter()
                .filter(|chunk| is_letters(chunk) && !has_syllables(chunk));
            let of_letters: usize = noise.map(|chunk| chunk.len()).sum();
            if of_letters > 0 {
                let digits = chunks.iter().filter(|chunk| !is_letters(chunk));
                look.noise += of_letters + digits.map(|chunk| chunk.len()).sum::<usize>();
            }
            for pair in part.as_bytes().windows(2) {
                let (one, other) = (kind(pair[0]), kind(pair[1]));
                look.turns += usize::from(one != other && (one, other) != (CAPITAL, SMALL));
            }
            part.bytes().for_each(|byte| kinds[kind(byte)] = true);
        }
        look.kinds = kinds.into_iter().filter(|there| *there).count();
        look
    }
}

const SMALL: usize = 0;
const CAPITAL: usize = 1;
const DIGIT: usize = 2;

fn kind(byte: u8) -> usize {
    match byte {
        b'A'..=b'Z' => CAPITAL,
        b'0'..=b'9' => DIGIT,
        _ => SMALL,
    }
}

/// Digits, words of small letters with or without their capital, and capitals alone.
fn chunks(part: &str) -> Vec<&str> {
    let bytes = part.as_bytes();
    let mut chunks = Vec::new();
    let mut start = 0;
    for at in 1..bytes.len() {
        let (before, here) = (kind(bytes[at - 1]), kind(bytes[at]));
        let after = bytes.get(at + 1).map(|byte| kind(*byte));
        let begins = match (before, here) {
            (CAPITAL, SMALL) => false,
            (CAPITAL, CAPITAL) => after == Some(SMALL),
            _ => before != here,
        };
        if begins {
            chunks.push(&part[start..at]);
            start = at;
        }
    }
    chunks.push(&part[start..]);
    chunks
}

fn is_letters(chunk: &str) -> bool {
    chunk.bytes().all(|byte| byte.is_ascii_alphabetic())
}

/// Whether somebody could say it.
fn has_syllables(letters: &str) -> bool {
    let (mut consonants, mut vowels, mut any) = (0, 0, false);
    for byte in letters.bytes() {
        if matches!(
            byte.to_ascii_lowercase(),
            b'a' | b'e' | b'i' | b'o' | b'u' | b'y'
        ) {
            (consonants, vowels, any) = (0, vowels + 1, true);
        } else {
            (consonants, vowels) = (consonants + 1, 0);
        }
        if consonants > 4 || vowels > 3 {
            return false;
        }
    }
    any && letters.len() >= 3
}

/// Whether a word is one of a sentence, or a name as programs have it: `ClientError:`,
/// `botocore.exceptions`.
pub(super) fn is_ordinary(word: &str) -> bool {
    let word = word
        .trim_start_matches(['"', '\'', '(', '[', '<'])
        .trim_end_matches(|c: char| c.is_ascii_punctuation());
    // `can't`, `sub-resource`.
    word.split(['.', '_', '-', '\'']).all(|part| {
        !part.is_empty()
            && is_letters(part)
            && chunks(part)
                .into_iter()
                .all(|chunk| has_syllables(chunk) || is_short(chunk, part))
    })
}

/// `was`, and the `DB` of `MongoDB`.
fn is_short(chunk: &str, part: &str) -> bool {
    let alone = chunk == part && chunk.len() <= 3;
    let initials = chunk.len() <= 4 && chunk.len() + 3 < part.len();
    alone || initials && chunk.bytes().all(|byte| byte.is_ascii_uppercase()) || chunk == "Id"
}

/// Words that only sentences have.
pub(super) fn is_of_a_sentence(word: &str) -> bool {
    const WORDS: &str = " a an and are at be been but by can cannot could did do does doesn't \
        expected expired failed field for from had has have if in included into invalid is isn't \
        it its may missing must no not of on or provided required should that the this to too was \
        were when while will with you your ";
    let word = word.trim_matches(|c: char| c.is_ascii_punctuation());
    !word.is_empty() && WORDS.contains(&format!(" {} ", word.to_ascii_lowercase()))
}
