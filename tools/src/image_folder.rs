//! Samples out of a folder of pictures: a folder per class within it, named by the class.

use crate::image::{Color, Image, Size};
use crate::records::{Label, Sample};
use anyhow::{Context, ensure};
use std::fs;
use std::path::{Path, PathBuf};

/// Samples of a folder.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageFolder {
    /// Names of the classes, by their number: the order of their names.
    pub classes: Vec<String>,
    /// The samples, class after class, in the order of the files' names; elements from 0 to 255, channel by
    /// channel, row by row.
    pub samples: Vec<Sample>,
    /// What a pixel holds.
    pub color: Color,
    /// Size of every picture.
    pub size: Size,
}

/// Reads all pictures. `color` and `size`: what they are brought to; without, all have to be as the first is.
/// Names that begin with a dot are passed over.
///
/// # Errors
/// The message names the file: one that cannot be read or is no picture, is of another size or colour than
/// the first, or lies where none belongs; a class without pictures, or no class.
pub fn read(
    folder: &Path,
    color: Option<Color>,
    size: Option<Size>,
) -> anyhow::Result<ImageFolder> {
    let (mut classes, mut samples, mut alike) = (Vec::new(), Vec::new(), None);
    for (class, class_folder) in entries(folder)?.into_iter().enumerate() {
        let shown = class_folder.display();
        ensure!(
            class_folder.is_dir(),
            "{shown}: is no folder; every picture lies in a folder of its class, DIR/CLASS/PICTURE"
        );
        let files = entries(&class_folder)?;
        ensure!(
            !files.is_empty(),
            "{shown}: a class without pictures; remove the folder or fill it"
        );
        for file in files {
            let elements = elements(&file, color, size, &mut alike)
                .with_context(|| file.display().to_string())?;
            samples.push(Sample {
                label: Label::Class(class as i64),
                elements,
            });
        }
        let name = class_folder.file_name().unwrap_or_default();
        classes.push(name.to_string_lossy().into_owned());
    }
    let (color, size) = alike.with_context(|| {
        format!(
            "{}: has no folders; every picture lies in a folder of its class, DIR/CLASS/PICTURE",
            folder.display()
        )
    })?;
    Ok(ImageFolder {
        classes,
        samples,
        color,
        size,
    })
}

/// A picture's elements. `alike`: what all pictures are, once there was one.
fn elements(
    file: &Path,
    color: Option<Color>,
    size: Option<Size>,
    alike: &mut Option<(Color, Size)>,
) -> anyhow::Result<Vec<f32>> {
    ensure!(
        !file.is_dir(),
        "is a folder within a class; every picture lies in DIR/CLASS/PICTURE"
    );
    let image = Image::decode(&fs::read(file)?)?;
    let (color, size) = (color.unwrap_or(image.color), size.unwrap_or(image.size));
    let (first_color, first_size) = *alike.get_or_insert((color, size));
    ensure!(
        color == first_color,
        "is {color}, the first picture is {first_color}; --color gray or --color rgb makes all alike"
    );
    ensure!(
        size == first_size,
        "is of {size} pixels, the first picture of {first_size}; --resize {first_size} makes all alike"
    );
    Ok(image.to(color).planes(size))
}

/// What a folder holds, by name.
fn entries(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let in_folder = || folder.display().to_string();
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(in_folder)? {
        let entry = entry.with_context(in_folder)?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            found.push(entry.path());
        }
    }
    found.sort_unstable();
    Ok(found)
}
