//! Decodes an image, makes it small, encodes it.
//!
//! Invariants: how many pixels an image has is read and checked before they are decoded; no decoder may allocate more than
//! that needs, and an image is copied once at most, for its transparency; of animations a bounded number of frames and pixels is decoded,
//! and they become no larger than their file, unless that is small; nothing but pixels gets into a thumbnail.

use std::io::Cursor;

use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};
use image::{
    AnimationDecoder, DynamicImage, Frame, Frames, ImageDecoder, ImageFormat, ImageReader, Limits,
    Rgba,
    codecs::{
        gif::{GifDecoder, GifEncoder, Repeat},
        jpeg::JpegEncoder,
        webp::WebPDecoder,
    },
    metadata::Orientation,
};
use wick_core::{
    Error, Result,
    config::{ThumbnailMethod, ThumbnailSize},
};

use crate::deletion::unsuitable;

/// Pixels of all frames of an animation together, for each pixel that a still image may have.
const ANIMATION_FACTOR: u64 = 4;

/// Pixels of all frames of an animated thumbnail together.
const MAX_ANIMATED_PIXELS: u64 = 32_000_000;

/// Frames of an animated thumbnail. One may take a few bytes in its file, and has a palette of its own in the thumbnail.
const MAX_FRAMES: usize = 1000;

/// Bytes that an animated thumbnail may have even if its file has fewer: thumbnails do not count as files of the user.
const SMALL_ANIMATION: usize = 1 << 20;

/// Bytes a decoder may allocate for each pixel: four channels of 16 bits, and as much again to work with.
const BYTES_PER_PIXEL: u64 = 16;

/// Bytes a decoder may allocate besides, as for a colour profile, which is compressed in some formats.
const BESIDES: u64 = 16 << 20;

/// Quality of JPEG, of 100.
const QUALITY: u8 = 85;

const JPEG: &str = "image/jpeg";
const PNG: &str = "image/png";
const GIF: &str = "image/gif";
const WEBP: &str = "image/webp";

/// What a thumbnail is.
pub(super) enum Rendered {
    /// The image as it is.
    Original {
        /// Its content type, found from its bytes.
        content_type: &'static str,
    },
    /// An image of its own.
    Made {
        /// Its file.
        bytes: Vec<u8>,
        /// Its content type.
        content_type: &'static str,
    },
}

/// What is known of an image before it is decoded.
pub(crate) struct Measured {
    format: ImageFormat,
    /// Its content type, found from its bytes.
    pub(crate) content_type: &'static str,
    /// Its width in pixels.
    pub(crate) width: u32,
    /// Its height in pixels.
    pub(crate) height: u32,
    /// Bytes of its pixels.
    pub(crate) decoded_bytes: u64,
    /// The most pixels that an image may have.
    max_pixels: u64,
}

/// Measures an image of at most `max_pixels`, without its pixels.
///
/// # Errors
/// `M_UNKNOWN`, 400, if the file is no image that can be decoded; `M_TOO_LARGE` if it has too many pixels.
pub(crate) fn measure(bytes: &[u8], max_pixels: u64) -> Result<Measured> {
    let (format, content_type) = format_of(bytes)?;
    // None of the pixels are decoded.
    let decoder = decoder(bytes, format, limits(0))?;
    let (width, height) = decoder.dimensions();
    if pixels(width, height) > max_pixels {
        return Err(Error::too_large("the image has too many pixels"));
    }
    if width == 0 || height == 0 {
        return Err(broken(()));
    }
    let decoded_bytes = decoder.total_bytes();
    Ok(Measured { format, content_type, width, height, decoded_bytes, max_pixels })
}

/// Makes a thumbnail of an image.
///
/// # Errors
/// `M_UNKNOWN`, 400, if the image cannot be decoded.
pub(super) fn render(
    bytes: &[u8],
    image: &Measured,
    size: ThumbnailSize,
    animated: bool,
) -> Result<Rendered> {
    let &Measured { format, content_type, width, height, max_pixels, .. } = image;
    let limits = || limits(pixels(width, height));
    let is_animation = is_animation(bytes, format, limits());
    if is_animation && animated {
        if is_small(width, height, size) {
            return Ok(Rendered::Original { content_type });
        }
        let made = frames(bytes, format, limits())
            .and_then(|frames| animation(bytes.len(), frames, size, max_pixels));
        if let Some(bytes) = made {
            return Ok(Rendered::Made { bytes, content_type: GIF });
        }
    }
    let (image, orientation) = decode(bytes, format, limits())?;
    // An original can only stand for a thumbnail if it is a still image.
    if !is_animation && is_small(width, height, turned(size, orientation)) {
        return Ok(Rendered::Original { content_type });
    }
    let mut small = resize(&image, turned(size, orientation))?;
    small.apply_orientation(orientation);
    encode(&small, format)
}

fn format_of(bytes: &[u8]) -> Result<(ImageFormat, &'static str)> {
    match image::guess_format(bytes) {
        Ok(format @ ImageFormat::Jpeg) => Ok((format, JPEG)),
        Ok(format @ ImageFormat::Png) => Ok((format, PNG)),
        Ok(format @ ImageFormat::Gif) => Ok((format, GIF)),
        Ok(format @ ImageFormat::WebP) => Ok((format, WEBP)),
        _ => Err(unsuitable("this is no image that thumbnails can be made of")),
    }
}

fn broken<E>(_: E) -> Error {
    unsuitable("the image cannot be decoded")
}

/// The limits for the decoder of an image of so many pixels.
fn limits(pixels: u64) -> Limits {
    let mut limits = Limits::default();
    limits.max_alloc = Some(pixels.saturating_mul(BYTES_PER_PIXEL).saturating_add(BESIDES));
    limits
}

fn pixels(width: u32, height: u32) -> u64 {
    u64::from(width).saturating_mul(u64::from(height))
}

fn decoder(bytes: &[u8], format: ImageFormat, limits: Limits) -> Result<impl ImageDecoder + '_> {
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(limits);
    reader.into_decoder().map_err(broken)
}

fn decode(
    bytes: &[u8],
    format: ImageFormat,
    limits: Limits,
) -> Result<(DynamicImage, Orientation)> {
    let mut decoder = decoder(bytes, format, limits)?;
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let image = DynamicImage::from_decoder(decoder).map_err(broken)?;
    Ok((image, orientation))
}

/// The size as it is before the image is turned.
fn turned(size: ThumbnailSize, orientation: Orientation) -> ThumbnailSize {
    match orientation {
        Orientation::Rotate90
        | Orientation::Rotate270
        | Orientation::Rotate90FlipH
        | Orientation::Rotate270FlipH => {
            ThumbnailSize { width: size.height, height: size.width, method: size.method }
        }
        _ => size,
    }
}

fn is_small(width: u32, height: u32, size: ThumbnailSize) -> bool {
    width <= size.width && height <= size.height
}

/// The part of an image that a thumbnail shows (left, top, width, height), and the thumbnail's size. Never more than the image
/// has.
fn fit(width: u32, height: u32, size: ThumbnailSize) -> ([u32; 4], (u32, u32)) {
    // Fractions of the image: (across, down) as width over width, height over height.
    let (across, down) = ((size.width, width), (size.height, height));
    let is_less = |one: (u32, u32), other: (u32, u32)| {
        u64::from(one.0) * u64::from(other.1) < u64::from(other.0) * u64::from(one.1)
    };
    let (less, more) = if is_less(across, down) { (across, down) } else { (down, across) };
    // So many pixels of a side that is made `part` of `whole`.
    let scaled = |side: u32, (part, whole): (u32, u32), most: u32| {
        let scaled = (u64::from(side) * u64::from(part) + u64::from(whole) / 2) / u64::from(whole);
        u32::try_from(scaled).unwrap_or(most).clamp(1, most)
    };
    match size.method {
        ThumbnailMethod::Scale => {
            ([0, 0, width, height], (scaled(width, less, width), scaled(height, less, height)))
        }
        ThumbnailMethod::Crop => {
            let target = (
                scaled(width, more, width).min(size.width),
                scaled(height, more, height).min(size.height),
            );
            // As many pixels as the thumbnail shows, unless it is no smaller than the image.
            let (part, whole) = more;
            let more = if part < whole { more } else { (1, 1) };
            let shown = |target: u32, side: u32| scaled(target, (more.1, more.0), side);
            let (shown_width, shown_height) = (shown(target.0, width), shown(target.1, height));
            let left = width.saturating_sub(shown_width) / 2;
            let top = height.saturating_sub(shown_height) / 2;
            ([left, top, shown_width, shown_height], target)
        }
    }
}

/// Cuts and shrinks: first the rows, so that nothing that is made besides the image has more than its height and the
/// thumbnail's width.
fn resize(image: &DynamicImage, size: ThumbnailSize) -> Result<DynamicImage> {
    let (part, (width, height)) = fit(image.width(), image.height(), size);
    let [left, top, part_width, part_height] = part.map(f64::from);
    let mut small = DynamicImage::new(width, height, image.color());
    let options = ResizeOptions::new()
        .resize_alg(ResizeAlg::Convolution(FilterType::CatmullRom))
        .crop(left, top, part_width, part_height);
    let resized = Resizer::new().resize(image, &mut small, &options);
    resized.map_err(|error| Error::internal("an image cannot be resized", error))?;
    Ok(small)
}

/// The thumbnail of an image that had this format: JPEG has no transparency, and makes drawings, which are PNG mostly, unclean.
fn encode(image: &DynamicImage, format: ImageFormat) -> Result<Rendered> {
    let failed = |error| Error::internal("a thumbnail cannot be encoded", error);
    let mut bytes = Vec::new();
    let is_opaque = is_opaque(image);
    if is_opaque && format != ImageFormat::Png {
        let encoder = JpegEncoder::new_with_quality(&mut bytes, QUALITY);
        image.to_rgb8().write_with_encoder(encoder).map_err(failed)?;
        return Ok(Rendered::Made { bytes, content_type: JPEG });
    }
    let image = match is_opaque {
        true => DynamicImage::ImageRgb8(image.to_rgb8()),
        false => DynamicImage::ImageRgba8(image.to_rgba8()),
    };
    image.write_to(&mut Cursor::new(&mut bytes), ImageFormat::Png).map_err(failed)?;
    Ok(Rendered::Made { bytes, content_type: PNG })
}

fn is_opaque(image: &DynamicImage) -> bool {
    let is_full = |pixel: &Rgba<u8>| {
        let [.., alpha] = pixel.0;
        alpha == u8::MAX
    };
    !image.color().has_alpha() || image.to_rgba8().pixels().all(is_full)
}

/// Whether there are several frames. What cannot be decoded has none.
fn is_animation(bytes: &[u8], format: ImageFormat, limits: Limits) -> bool {
    match format {
        ImageFormat::Gif => gif(bytes, limits)
            .is_some_and(|gif| gif.into_frames().take(2).filter(Result::is_ok).count() == 2),
        ImageFormat::WebP => webp(bytes, limits).is_some_and(|webp| webp.has_animation()),
        _ => false,
    }
}

fn gif(bytes: &[u8], limits: Limits) -> Option<GifDecoder<Cursor<&[u8]>>> {
    let mut decoder = GifDecoder::new(Cursor::new(bytes)).ok()?;
    decoder.set_limits(limits).ok()?;
    Some(decoder)
}

fn webp(bytes: &[u8], limits: Limits) -> Option<WebPDecoder<Cursor<&[u8]>>> {
    let mut decoder = WebPDecoder::new(Cursor::new(bytes)).ok()?;
    decoder.set_limits(limits).ok()?;
    Some(decoder)
}

/// The frames of an animation; `None` if they cannot be read.
fn frames(bytes: &[u8], format: ImageFormat, limits: Limits) -> Option<Frames<'_>> {
    Some(match format {
        ImageFormat::Gif => gif(bytes, limits)?.into_frames(),
        _ => webp(bytes, limits)?.into_frames(),
    })
}

/// The animation of a file of so many bytes as a small GIF; `None` if it has too many frames or pixels, would become too large a file, or is broken.
fn animation(
    bytes: usize,
    frames: Frames<'_>,
    size: ThumbnailSize,
    max_pixels: u64,
) -> Option<Vec<u8>> {
    let (mut decoded, mut made) = (0_u64, 0_u64);
    let mut small = Vec::new();
    {
        let mut encoder = GifEncoder::new_with_speed(&mut small, 30);
        encoder.set_repeat(Repeat::Infinite).ok()?;
        for (number, frame) in frames.enumerate() {
            let frame = frame.ok()?;
            let (width, height) = frame.buffer().dimensions();
            decoded = decoded.saturating_add(pixels(width, height));
            let delay = frame.delay();
            let image = DynamicImage::ImageRgba8(frame.into_buffer());
            let image = resize(&image, size).ok()?.into_rgba8();
            made = made.saturating_add(pixels(image.width(), image.height()));
            let is_long = number >= MAX_FRAMES || made > MAX_ANIMATED_PIXELS;
            if is_long || decoded > max_pixels.saturating_mul(ANIMATION_FACTOR) {
                return None;
            }
            encoder.encode_frame(Frame::from_parts(image, 0, 0, delay)).ok()?;
        }
    }
    (small.len() <= bytes.max(SMALL_ANIMATION)).then_some(small)
}

#[cfg(test)]
mod tests {
    use image::{ImageEncoder, RgbImage, codecs::png::PngEncoder};

    use super::*;

    #[test]
    fn a_colour_profile_is_decompressed_up_to_16_mebibytes() {
        for (megabytes, is_read) in [(1, true), (64, false)] {
            let mut file = Vec::new();
            let mut encoder = PngEncoder::new(&mut file);
            encoder.set_icc_profile(vec![0; megabytes << 20]).unwrap();
            RgbImage::new(40, 30).write_with_encoder(encoder).unwrap();
            assert!(file.len() < 1 << 20, "{} bytes", file.len());
            let mut decoder = decoder(&file, ImageFormat::Png, limits(40 * 30)).unwrap();
            assert_eq!(decoder.icc_profile().unwrap().is_some(), is_read, "{megabytes}");
            assert_eq!(measure(&file, 2000).unwrap().width, 40);
        }
    }
}
