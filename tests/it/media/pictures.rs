//! Pictures for tests, made on the spot.

use std::io::Cursor;

use image::{
    Delay, DynamicImage, Frame, ImageFormat, Rgb, RgbImage, Rgba, RgbaImage,
    codecs::gif::GifEncoder,
};

/// The colours of the quarters of a picture: top left, top right, bottom left, bottom right.
pub(super) const QUARTERS: [[u8; 3]; 4] =
    [[250, 10, 10], [10, 250, 10], [10, 10, 250], [240, 240, 20]];

fn quarter(x: u32, y: u32, width: u32, height: u32) -> [u8; 3] {
    let (right, below) = (usize::from(2 * x >= width), usize::from(2 * y >= height));
    QUARTERS[2 * below + right]
}

fn encoded(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.into().write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn quarters(width: u32, height: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| Rgb(quarter(x, y, width, height)))
}

/// An opaque PNG with a colour in each quarter.
pub(crate) fn png(width: u32, height: u32) -> Vec<u8> {
    encoded(quarters(width, height), ImageFormat::Png)
}

/// The same as WebP.
pub(super) fn webp(width: u32, height: u32) -> Vec<u8> {
    encoded(quarters(width, height), ImageFormat::WebP)
}

/// A PNG that is transparent on its left half.
pub(super) fn transparent_png(width: u32, height: u32) -> Vec<u8> {
    let image = RgbaImage::from_fn(width, height, |x, _| {
        if 2 * x < width { Rgba([0; 4]) } else { Rgba([10, 250, 10, 255]) }
    });
    encoded(image, ImageFormat::Png)
}

/// A JPEG with a colour in each quarter, with this orientation and the place of its taking in its metadata.
pub(super) fn jpeg(width: u32, height: u32, orientation: u8) -> Vec<u8> {
    let plain = encoded(quarters(width, height), ImageFormat::Jpeg);
    let mut exif = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x02\x01\x12\0\x03\0\0\0\x01\0".to_vec();
    exif.extend([orientation, 0, 0]);
    exif.extend(b"\x01\x0e\0\x02\0\0\0\x04SECR\0\0\0\0SECRETPLACE");
    let length = u16::try_from(exif.len() + 2).unwrap();
    let mut file = plain[..2].to_vec();
    file.extend([0xff, 0xe1]);
    file.extend(length.to_be_bytes());
    file.extend(exif);
    file.extend(&plain[2..]);
    file
}

/// A GIF of so many frames, one grey after the other.
pub(super) fn gif(width: u32, height: u32, frames: u16) -> Vec<u8> {
    animated(frames, |number| {
        let [grey, _] = number.wrapping_mul(20).to_le_bytes();
        RgbaImage::from_pixel(width, height, Rgba([grey, grey, grey, 255]))
    })
}

/// A GIF of noise, in which each of so many frames but the first changes one pixel.
pub(super) fn noisy_gif(width: u32, height: u32, frames: u16) -> Vec<u8> {
    let mut file = animated(frames, |number| {
        if number > 0 {
            return RgbaImage::from_pixel(1, 1, Rgba([9, 9, 9, 255]));
        }
        RgbaImage::from_fn(width, height, |x, y| {
            let noise = (x ^ y << 16).wrapping_mul(2_654_435_761);
            let noise = (noise ^ noise >> 15).wrapping_mul(2_246_822_519);
            let [red, green, blue, _] = (noise ^ noise >> 13).to_le_bytes();
            Rgba([red, green, blue, 255])
        })
    });
    // The encoder has each frame cleared before the next one; here it stays.
    for at in 0..file.len() - 3 {
        if file[at..].starts_with(b"\x21\xf9\x04") {
            file[at + 3] = file[at + 3] & !0x1c | 0x04;
        }
    }
    file
}

fn animated(frames: u16, frame: impl Fn(u16) -> RgbaImage) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = GifEncoder::new(&mut bytes);
    for number in 0..frames {
        let image = frame(number);
        let delay = Delay::from_numer_denom_ms(100, 1);
        encoder.encode_frame(Frame::from_parts(image, 0, 0, delay)).unwrap();
    }
    drop(encoder);
    bytes
}

/// A small PNG whose header claims this size.
pub(super) fn png_bomb(width: u32, height: u32) -> Vec<u8> {
    let mut header = b"IHDR".to_vec();
    header.extend(width.to_be_bytes());
    header.extend(height.to_be_bytes());
    header.extend([8, 6, 0, 0, 0]);
    let mut file = b"\x89PNG\r\n\x1a\n\0\0\0\x0d".to_vec();
    file.extend(&header);
    file.extend(checksum(&header).to_be_bytes());
    file.extend(b"\0\0\0\0IDAT\x35\xaf\x06\x1e\0\0\0\0IEND\xae\x42\x60\x82");
    file
}

/// The CRC-32 of a PNG's chunk.
fn checksum(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            if sum & 1 == 1 { (sum >> 1) ^ 0xedb8_8320 } else { sum >> 1 }
        })
    })
}
