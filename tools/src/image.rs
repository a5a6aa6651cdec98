//! Pictures out of PNG and JPEG files, as the elements of a sample.
//!
//! # References
//! - ITU-R BT.601-7, section 2.5.1: the weights of red, green and blue in gray, as in Pillow's mode `L`.

use anyhow::{Context, bail, ensure};
use std::fmt;
use std::io::Cursor;
use std::str::FromStr;
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

/// What a pixel holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Color {
    /// One number, its brightness.
    Gray,
    /// Red, green and blue.
    Rgb,
}

impl Color {
    /// Numbers per pixel.
    #[must_use]
    pub const fn channels(self) -> usize {
        match self {
            Self::Gray => 1,
            Self::Rgb => 3,
        }
    }
}

impl fmt::Display for Color {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Gray => "gray",
            Self::Rgb => "rgb",
        })
    }
}

/// Pixels in a row, and rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const ALLOWED: std::ops::RangeInclusive<usize> = 1..=16_384;
        let side = |text: &str| text.parse().ok().filter(|side| ALLOWED.contains(side));
        text.split_once('x')
            .and_then(|(width, height)| {
                Some(Self {
                    width: side(width)?,
                    height: side(height)?,
                })
            })
            .ok_or_else(|| {
                "allowed is WIDTHxHEIGHT, such as 32x32, each from 1 to 16384".to_owned()
            })
    }
}

/// A picture of 8 bits per channel: row by row, the channels of a pixel side by side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Its size.
    pub size: Size,
    /// What a pixel holds.
    pub color: Color,
    pixels: Vec<u8>,
}

impl Image {
    /// Decodes a PNG or JPEG file; its first bytes say which. Palettes become colours, 16 bits their upper 8,
    /// transparency and the orientation in EXIF are left out, as Pillow's `convert` does.
    ///
    /// # Errors
    /// It is neither, or is damaged or cut off.
    pub fn decode(bytes: &[u8]) -> anyhow::Result<Self> {
        match bytes {
            [0x89, b'P', b'N', b'G', ..] => png(bytes).context("is no sound PNG"),
            [0xff, 0xd8, ..] => jpeg(bytes).context("is no sound JPEG"),
            _ => bail!("is neither a PNG nor a JPEG"),
        }
    }

    /// The picture in another colour.
    #[must_use]
    pub fn to(self, color: Color) -> Self {
        let pixels = match (self.color, color) {
            (Color::Rgb, Color::Gray) => {
                let (pixels, _) = self.pixels.as_chunks::<3>();
                pixels.iter().map(|pixel| luma(*pixel)).collect()
            }
            (Color::Gray, Color::Rgb) => self.pixels.iter().flat_map(|&gray| [gray; 3]).collect(),
            _ => self.pixels,
        };
        Self {
            color,
            pixels,
            ..self
        }
    }

    /// The picture at another size, as elements from 0 to 255 in the order of a model's input: channel by channel,
    /// row by row. Every element is the mean of the pixels around its place with the weights of a triangle
    /// over what it covers, Pillow's BILINEAR; Pillow rounds twice to 8 bits, this does not.
    #[must_use]
    pub fn planes(&self, size: Size) -> Vec<f32> {
        let Size { width, height } = self.size;
        let channels = self.color.channels();
        let columns = triangles(width, size.width);
        let rows = triangles(height, size.height);
        let mut planes = Vec::with_capacity(channels * size.width * size.height);
        for channel in 0..channels {
            let at = |row: usize, column: usize| {
                f32::from(self.pixels[(row * width + column) * channels + channel])
            };
            let narrow: Vec<f32> = (0..height)
                .flat_map(|row| {
                    let along = move |column| at(row, column);
                    columns.iter().map(move |triangle| triangle.mean(along))
                })
                .collect();
            for triangle in &rows {
                planes.extend(
                    (0..size.width)
                        .map(|column| triangle.mean(|row| narrow[row * size.width + column])),
                );
            }
        }
        planes
    }
}

/// Weights of consecutive pixels; they add up to 1.
struct Triangle {
    first: usize,
    weights: Vec<f32>,
}

impl Triangle {
    fn mean(&self, pixel: impl Fn(usize) -> f32) -> f32 {
        let pixels = (self.first..).map(pixel);
        pixels.zip(&self.weights).map(|(p, w)| p * w).sum()
    }
}

/// One for each of `to` places in a line of `from` pixels.
fn triangles(from: usize, to: usize) -> Vec<Triangle> {
    if from == to {
        let itself = |first| Triangle {
            first,
            weights: vec![1.0],
        };
        return (0..to).map(itself).collect();
    }
    let scale = from as f64 / to as f64;
    let reach = scale.max(1.0);
    let triangle = |place: usize| {
        let center = (place as f64 + 0.5) * scale;
        let first = (center - reach + 0.5).max(0.0) as usize;
        let end = ((center + reach + 0.5) as usize).min(from);
        let weight = |pixel: usize| (1.0 - ((pixel as f64 + 0.5 - center) / reach).abs()).max(0.0);
        let total: f64 = (first..end).map(weight).sum();
        Triangle {
            first,
            weights: (first..end)
                .map(|pixel| (weight(pixel) / total) as f32)
                .collect(),
        }
    };
    (0..to).map(triangle).collect()
}

/// Brightness in the fixed point that Pillow uses: 0.299 red, 0.587 green, 0.114 blue.
fn luma([red, green, blue]: [u8; 3]) -> u8 {
    let sum = 19_595 * u32::from(red) + 38_470 * u32::from(green) + 7_471 * u32::from(blue);
    ((sum + 0x8000) >> 16) as u8
}

fn png(bytes: &[u8]) -> anyhow::Result<Image> {
    let mut decoder = png::Decoder::new(Cursor::new(bytes));
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    let mut reader = decoder.read_info()?;
    let length = reader.output_buffer_size().context("it is too large")?;
    let mut pixels = vec![0; length];
    let info = reader.next_frame(&mut pixels)?;
    // Reads to the end: a file that is cut off behind its pixels is not sound either.
    reader.finish()?;
    pixels.truncate(info.buffer_size());
    let (color, found) = match info.color_type {
        png::ColorType::Grayscale => (Color::Gray, 1),
        png::ColorType::GrayscaleAlpha => (Color::Gray, 2),
        png::ColorType::Rgba => (Color::Rgb, 4),
        _ => (Color::Rgb, 3),
    };
    let kept = color.channels();
    if found != kept {
        let opaque = pixels.chunks_exact(found).flat_map(|pixel| &pixel[..kept]);
        pixels = opaque.copied().collect();
    }
    image(info.width as usize, info.height as usize, color, pixels)
}

fn jpeg(bytes: &[u8]) -> anyhow::Result<Image> {
    let options = DecoderOptions::default().set_strict_mode(true);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers()?;
    let (color, out) = match decoder.input_colorspace() {
        Some(ColorSpace::Luma) => (Color::Gray, ColorSpace::Luma),
        _ => (Color::Rgb, ColorSpace::RGB),
    };
    decoder.set_options(options.jpeg_set_out_colorspace(out));
    let pixels = decoder.decode()?;
    let (width, height) = decoder.dimensions().context("it has no size")?;
    image(width, height, color, pixels)
}

fn image(width: usize, height: usize, color: Color, pixels: Vec<u8>) -> anyhow::Result<Image> {
    let size = Size { width, height };
    ensure!(
        !pixels.is_empty() && pixels.len() == width * height * color.channels(),
        "a {color} picture of {size} has {} bytes",
        pixels.len()
    );
    Ok(Image {
        size,
        color,
        pixels,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gray(width: usize, pixels: &[u8]) -> Image {
        image(width, pixels.len() / width, Color::Gray, pixels.to_vec()).unwrap()
    }

    fn size(text: &str) -> Size {
        text.parse().unwrap()
    }

    #[test]
    fn a_size_is_width_and_height() {
        let Size { width, height } = size("3x2");
        assert_eq!((width, height), (3, 2));
        for bad in ["", "3", "3x", "0x2", "3x-1", "3x2x1", "20000x1"] {
            let error = bad.parse::<Size>().unwrap_err();
            assert!(error.contains("1 to 16384"), "{bad}: {error}");
        }
    }

    #[test]
    fn channels_come_one_after_the_other() {
        let rgb = image(2, 1, Color::Rgb, vec![1, 2, 3, 4, 5, 6]).unwrap();
        assert_eq!(rgb.planes(rgb.size), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
        let replicated = gray(2, &[7, 8]).to(Color::Rgb);
        assert_eq!(
            replicated.planes(replicated.size),
            [7.0, 8.0, 7.0, 8.0, 7.0, 8.0]
        );
        // Pillow's convert("L").
        let colors = [255, 0, 0, 0, 255, 0, 0, 0, 255, 10, 200, 77];
        let gray = image(4, 1, Color::Rgb, colors.to_vec())
            .unwrap()
            .to(Color::Gray);
        assert_eq!(gray.pixels, [76, 150, 29, 129]);
    }

    #[test]
    fn a_smaller_picture_is_made_of_means_and_a_larger_one_of_lines() {
        let step = gray(4, &[0, 0, 80, 80]);
        // A triangle of two pixels on both sides: weights 3, 3, 1 of 7.
        let halved = step.planes(size("2x1"));
        assert!((halved[0] - 80.0 / 7.0).abs() < 1e-4, "{halved:?}");
        assert!((halved[1] - 480.0 / 7.0).abs() < 1e-4, "{halved:?}");
        let doubled = gray(2, &[0, 100]).planes(size("4x1"));
        assert_eq!(doubled, [0.0, 25.0, 75.0, 100.0]);
        let upright = gray(1, &[0, 100]).planes(size("1x4"));
        assert_eq!(upright, doubled);
        for to in ["1x1", "7x3", "64x48"] {
            let flat = gray(5, &[9; 20]).planes(size(to));
            assert_eq!(flat.len(), size(to).width * size(to).height);
            assert!(flat.iter().all(|pixel| (pixel - 9.0).abs() < 1e-5), "{to}");
        }
    }

    #[test]
    fn what_is_no_picture_says_so() {
        let says = |bytes: &[u8], expected: &str| {
            let error = format!("{:#}", Image::decode(bytes).unwrap_err());
            assert!(error.contains(expected), "{error}");
        };
        says(b"GIF89a", "neither a PNG nor a JPEG");
        says(b"", "neither a PNG nor a JPEG");
        says(b"\x89PNG\r\n\x1a\nrest", "no sound PNG");
        says(b"\xff\xd8\xff\xe0", "no sound JPEG");
    }
}
