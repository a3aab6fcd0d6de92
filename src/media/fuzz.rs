//! Damaged images and pages: each is refused or gives something within the bounds, and none makes the server panic or grow.
//!
//! A few hundred of each are part of the tests. `make fuzz-media` runs for `WICK_FUZZ_SECONDS`, with other
//! random numbers each time, and begins with the files of the folder `WICK_FUZZ_CORPUS` too, if there is one.

use std::{
    env, fs,
    io::{self, Cursor, Write},
    time::{Duration, Instant},
};

use image::{
    Delay, DynamicImage, Frame, ImageFormat, Rgba, RgbaImage,
    codecs::{gif::GifEncoder, jpeg::JpegEncoder},
};
use proptest::{
    prelude::*,
    sample::Index,
    strategy::ValueTree,
    test_runner::{Config, TestRunner},
};
use url::Url;
use wick_core::config::{ThumbnailMethod, ThumbnailSize};

use crate::{preview, thumbnail};

/// Pixels of the largest image that is decoded.
const MAX_PIXELS: u64 = 4_000_000;

/// The most that the memory of the process may grow while damaged files are read, in bytes.
const MAX_GROWTH: u64 = 256 << 20;

const CASES: u32 = 200;

/// A way to damage a file.
#[derive(Clone, Debug)]
enum Damage {
    Byte(Index, u8),
    Number(Index, u32),
    Cut(Index),
    Remove(Index, u16),
    Repeat(Index, u16, u8),
    Insert(Index, Vec<u8>),
    /// A piece of another file.
    Splice(Index, Index, Index, u16),
}

fn damage() -> impl Strategy<Value = Damage> {
    let place = any::<Index>;
    let numbers = prop_oneof![
        Just(0),
        Just(1),
        Just(0xffff),
        Just(0x7fff_ffff),
        Just(u32::MAX),
        any::<u32>()
    ];
    prop_oneof![
        4 => (place(), any::<u8>()).prop_map(|(at, byte)| Damage::Byte(at, byte)),
        3 => (place(), numbers).prop_map(|(at, number)| Damage::Number(at, number)),
        1 => place().prop_map(Damage::Cut),
        1 => (place(), 1_u16..400).prop_map(|(at, length)| Damage::Remove(at, length)),
        1 => (place(), 1_u16..400, 1_u8..20).prop_map(|(at, length, times)| Damage::Repeat(at, length, times)),
        1 => (place(), prop::collection::vec(any::<u8>(), 1..20)).prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
        1 => (place(), place(), place(), 1_u16..2000)
            .prop_map(|(at, file, from, length)| Damage::Splice(at, file, from, length)),
    ]
}

impl Damage {
    fn apply(&self, file: &mut Vec<u8>, corpus: &[Vec<u8>]) {
        let at = |index: &Index, file: &[u8]| index.index(file.len().max(1)).min(file.len());
        let piece = |file: &[u8], from: usize, length: u16| {
            file[from..file.len().min(from + usize::from(length))].to_vec()
        };
        match self {
            Self::Byte(index, byte) => {
                let at = at(index, file);
                file.splice(at..file.len().min(at + 1), [*byte]);
            }
            Self::Number(index, number) => {
                let at = at(index, file);
                file.splice(at..file.len().min(at + 4), number.to_be_bytes());
            }
            Self::Cut(index) => file.truncate(at(index, file)),
            Self::Remove(index, length) => {
                let at = at(index, file);
                file.drain(at..file.len().min(at + usize::from(*length)));
            }
            Self::Repeat(index, length, times) => {
                let at = at(index, file);
                let piece = piece(file, at, *length).repeat(usize::from(*times));
                file.splice(at..at, piece);
            }
            Self::Insert(index, bytes) => {
                let at = at(index, file);
                file.splice(at..at, bytes.iter().copied());
            }
            Self::Splice(index, other, from, length) => {
                let at = at(index, file);
                let other = &corpus[other.index(corpus.len())];
                let from = from.index(other.len().max(1)).min(other.len());
                file.splice(at..at, piece(other, from, *length));
            }
        }
    }
}

/// What is to be read: a file of the corpus, damaged, and how.
fn damaged(corpus: &[Vec<u8>]) -> impl Strategy<Value = (Vec<u8>, bool)> {
    let ways =
        (0..corpus.len(), prop::collection::vec(damage(), 0..6), any::<bool>(), any::<bool>());
    ways.prop_map(|(which, damages, is_sealed, flag)| {
        let mut file = corpus[which].clone();
        for damage in damages {
            damage.apply(&mut file, corpus);
        }
        if is_sealed {
            seal(&mut file);
        }
        (file, flag)
    })
}

/// Gives the chunks of a PNG the checksums that decoders ask for.
fn seal(file: &mut [u8]) {
    let mut at = 8;
    while file.starts_with(b"\x89PNG")
        && let Some(length) = file.get(at..at + 4)
    {
        let length = u32::from_be_bytes(length.try_into().unwrap());
        let Some(end) =
            usize::try_from(length).ok().and_then(|length| (at + 8).checked_add(length))
        else {
            return;
        };
        let Some(sum) = file.get(at + 4..end).map(checksum) else { return };
        let Some(place) = file.get_mut(end..end + 4) else { return };
        place.copy_from_slice(&sum.to_be_bytes());
        at = end + 4;
    }
}

/// The CRC-32 of a PNG's chunk.
fn checksum(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            if sum & 1 == 1 { (sum >> 1) ^ 0xedb8_8320 } else { sum >> 1 }
        })
    })
}

/// The memory of this process, in bytes.
fn memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or_default() << 10
}

/// Reads damaged files, a few or for as long as is wanted.
#[expect(clippy::disallowed_methods, reason = "how long it runs is measured, not tested")]
fn fuzz(mut corpus: Vec<Vec<u8>>, wanted: &[&str], read: impl Fn(&[u8], bool)) {
    let seconds = env::var("WICK_FUZZ_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    let Some(seconds) = seconds else {
        let mut runner = TestRunner::deterministic();
        for _ in 0..CASES {
            let (file, flag) = damaged(&corpus).new_tree(&mut runner).unwrap().current();
            read(&file, flag);
        }
        return;
    };
    if let Ok(folder) = env::var("WICK_FUZZ_CORPUS") {
        corpus.extend(files(folder.as_ref(), wanted));
    }
    let begun = Instant::now();
    let (mut cases, mut first) = (0, None);
    while begun.elapsed() < Duration::from_secs(seconds) {
        let config = Config { cases: 500, failure_persistence: None, ..Config::default() };
        let run = TestRunner::new(config).run(&damaged(&corpus), |(file, flag)| {
            read(&file, flag);
            Ok(())
        });
        run.unwrap();
        cases += 500;
        let (first, now) = (*first.get_or_insert_with(memory), memory());
        assert!(now < first + MAX_GROWTH, "memory grew from {first} to {now} in {cases} cases");
    }
    let (first, last) = (first.unwrap_or_default(), memory());
    let found =
        writeln!(io::stderr(), "{cases} cases of {} files, memory {first} to {last}", corpus.len());
    found.unwrap();
}

/// The files below a folder with such endings, none of them large.
fn files(folder: &std::path::Path, wanted: &[&str]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        if path.is_dir() {
            found.extend(files(&path, wanted));
        } else if wanted.contains(&ending)
            && entry.metadata().is_ok_and(|file| file.len() < 1 << 20)
        {
            found.extend(fs::read(path));
        }
    }
    found
}

fn encoded(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.into().write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn images() -> Vec<Vec<u8>> {
    let colours = RgbaImage::from_fn(61, 47, |x, y| {
        let [a, b, ..] = (x * 5 + y * 7).to_be_bytes();
        Rgba([b ^ a, u8::try_from(x * 4).unwrap(), u8::try_from(y * 5).unwrap(), 255 - b])
    });
    let opaque = DynamicImage::from(colours.clone()).into_rgb8();
    let mut gif = Vec::new();
    let mut encoder = GifEncoder::new(&mut gif);
    for _ in 0..3 {
        let delay = Delay::from_numer_denom_ms(50, 1);
        encoder.encode_frame(Frame::from_parts(colours.clone(), 0, 0, delay)).unwrap();
    }
    drop(encoder);
    let mut grey = Vec::new();
    let encoder = JpegEncoder::new_with_quality(&mut grey, 40);
    DynamicImage::from(opaque.clone()).into_luma8().write_with_encoder(encoder).unwrap();
    vec![
        encoded(opaque.clone(), ImageFormat::Jpeg),
        grey,
        encoded(colours.clone(), ImageFormat::Png),
        encoded(DynamicImage::from(opaque.clone()).into_luma16(), ImageFormat::Png),
        encoded(opaque, ImageFormat::WebP),
        encoded(colours, ImageFormat::WebP),
        gif,
    ]
}

#[test]
fn a_damaged_image_gets_a_small_thumbnail_or_is_refused() {
    let sizes = [
        ThumbnailSize { width: 24, height: 16, method: ThumbnailMethod::Crop },
        ThumbnailSize { width: 30, height: 40, method: ThumbnailMethod::Scale },
    ];
    fuzz(images(), &["jpg", "jpeg", "png", "gif", "webp", "apng"], |file, animated| {
        for size in sizes {
            let made = thumbnail::made_of(file, size, animated, MAX_PIXELS).ok().flatten();
            let Some(made) = made else { continue };
            let image = image::load_from_memory(&made).unwrap();
            assert!(image.width() <= size.width.max(size.height));
            assert!(image.height() <= size.height.max(size.width));
        }
    });
}

#[test]
fn a_damaged_page_gives_no_more_than_a_preview() {
    let page = "<!doctype html><html><head><meta charset='utf-8'><base href=\"/a/\">\
        <title>A title &amp; more</title><meta property='og:title' content=\"x\"><link rel=image_src href=b.png>\
        <meta name=twitter:image content='https://a.test/\u{e4}.png'><style>p { }</style>\
        <script>if (a < b) { \"</p>\" } <!-- <script> --></script></head><body><h1>He\u{301}ading</h1><p>Some \
        <b>text<i></b></i><textarea></p></textarea><svg><![CDATA[ ]]></svg><img src='c.png'>&notit; &#x110000;";
    let utf_16 = page.encode_utf16().flat_map(u16::to_le_bytes);
    let utf_16 = [0xff, 0xfe].into_iter().chain(utf_16).collect();
    let pages = vec![page.as_bytes().to_vec(), page.repeat(20).into_bytes(), utf_16];
    let url = Url::parse("https://a.test/b").unwrap();
    fuzz(pages, &["html", "htm", "xhtml", "svg"], |file, is_labelled| {
        let content_type = if is_labelled { "text/html; charset=shift_jis" } else { "text/html" };
        let json = preview::page_json(file, content_type, &url);
        assert!(json.len() < 300_000, "{} bytes", json.len());
    });
}
