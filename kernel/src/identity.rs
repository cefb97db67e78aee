//! Ids that are functions of what they identify. Twin: `enrichment/identity.py`, and digests of
//! `enrichment/customer/validation.py`.

use blake2b_simd::Params;

/// One part of an id.
pub enum Part<'a> {
    Text(&'a str),
    Number(i64),
}

/// 32 hexadecimal digits of the parts as a JSON array in ASCII, with Python's default separators.
pub fn identifier(parts: &[Part<'_>]) -> String {
    let mut encoded = vec![b'['];
    for (at, part) in parts.iter().enumerate() {
        if at > 0 {
            encoded.extend_from_slice(b", ");
        }
        match part {
            Part::Text(text) => write_in_ascii(&mut encoded, text),
            Part::Number(number) => {
                encoded.extend_from_slice(itoa::Buffer::new().format(*number).as_bytes());
            }
        }
    }
    encoded.push(b']');
    let digest = Params::new().hash_length(16).hash(&encoded);
    digest.to_hex().to_string()
}

/// Eight bytes that stand for an id, as a number.
pub fn digest_of(text: &[u8]) -> u64 {
    let digest = Params::new().hash_length(8).hash(text);
    digest
        .as_bytes()
        .iter()
        .fold(0, |number, &byte| number << 8 | u64::from(byte))
}

fn write_in_ascii(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for character in text.chars() {
        match character {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            '\u{8}' => out.extend_from_slice(b"\\b"),
            '\u{c}' => out.extend_from_slice(b"\\f"),
            ' '..='~' => out.push(character as u8),
            _ => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    out.extend_from_slice(format!("\\u{unit:04x}").as_bytes());
                }
            }
        }
    }
    out.push(b'"');
}
