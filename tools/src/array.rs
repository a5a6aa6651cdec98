//! Arrays of NumPy: `.npy` files, and `.npz` archives of them.
//!
//! # References
//! - NumPy Enhancement Proposal 1, *A Simple File Format for NumPy Arrays*.

use anyhow::{Context, bail, ensure};
use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::Path;
use zip::ZipArchive;

const MAGIC: &[u8] = b"\x93NUMPY";

/// A dense array, row-major. Elements of every type become float64, which holds float32 and whole numbers
/// up to 2^53 exactly.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Length of each axis.
    pub shape: Vec<usize>,
    /// The elements.
    pub values: Vec<f64>,
}

impl Array {
    /// Length of the first axis; 1 for a scalar.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.shape.first().copied().unwrap_or(1)
    }

    /// Elements of each row.
    #[must_use]
    pub fn row_len(&self) -> usize {
        self.shape.iter().skip(1).product()
    }

    /// Reads a `.npy` file.
    ///
    /// # Errors
    /// It cannot be read, or as [`Array::decode`].
    pub fn read(path: &Path) -> anyhow::Result<Array> {
        let bytes = fs::read(path).with_context(|| path.display().to_string())?;
        Self::decode(&bytes).with_context(|| path.display().to_string())
    }

    /// Reads one array of a `.npz` archive.
    ///
    /// # Errors
    /// The archive cannot be read or has no such array (the message lists those it has), or as
    /// [`Array::decode`].
    pub fn read_member(path: &Path, name: &str) -> anyhow::Result<Array> {
        let in_file = || path.display().to_string();
        let file = File::open(path).with_context(in_file)?;
        let mut archive = ZipArchive::new(BufReader::new(file)).with_context(in_file)?;
        let member = format!("{name}.npy");
        if archive.index_for_name(&member).is_none() {
            let mut names: Vec<String> = archive
                .file_names()
                .filter_map(|name| Some(name.ok()?.strip_suffix(".npy")?.to_owned()))
                .collect();
            names.sort_unstable();
            bail!(
                "{}: has no array `{name}`, only {}; choose with --x and --y",
                path.display(),
                names.join(", ")
            );
        }
        let mut bytes = Vec::new();
        archive
            .by_name(&member)
            .with_context(in_file)?
            .read_to_end(&mut bytes)
            .with_context(in_file)?;
        Self::decode(&bytes).with_context(|| format!("{}, array `{name}`", path.display()))
    }

    /// Decodes the bytes of a `.npy` file.
    ///
    /// # Errors
    /// It is no such file, is in Fortran order, holds a type that is no number, or ends early or late.
    pub fn decode(bytes: &[u8]) -> anyhow::Result<Array> {
        ensure!(bytes.starts_with(MAGIC), "is not a NumPy array file");
        let cut = || "its header is cut off";
        let major = *bytes.get(6).with_context(cut)?;
        let (start, length) = match major {
            1 => {
                let length: &[u8; 2] = bytes
                    .get(8..10)
                    .and_then(|b| b.first_chunk())
                    .with_context(cut)?;
                (10, usize::from(u16::from_le_bytes(*length)))
            }
            2 | 3 => {
                let length: &[u8; 4] = bytes
                    .get(8..12)
                    .and_then(|b| b.first_chunk())
                    .with_context(cut)?;
                (12, u32::from_le_bytes(*length) as usize)
            }
            other => bail!("is of version {other} of the format, 1 to 3 can be read"),
        };
        let end = start + length;
        let header = bytes.get(start..end).with_context(cut)?;
        let header = std::str::from_utf8(header).context("its header is not text")?;
        let order = field(header, "fortran_order")?;
        ensure!(
            order.starts_with("False"),
            "is in Fortran order; save np.ascontiguousarray(it)"
        );
        let kind = field(header, "descr")?;
        let kind = kind
            .strip_prefix('\'')
            .and_then(|rest| rest.split('\'').next())
            .context("holds records, not numbers; save its columns as one array")?;
        let shape = shape(field(header, "shape")?)?;
        let values = numbers(kind, &bytes[end..])?;
        let count = shape
            .iter()
            .try_fold(1_usize, |product, &size| product.checked_mul(size))
            .context("its shape is too large")?;
        ensure!(
            values.len() == count,
            "holds {} elements, its shape {shape:?} has {count}",
            values.len()
        );
        Ok(Array { shape, values })
    }
}

/// What follows `'name':` in a header's dictionary.
fn field<'a>(header: &'a str, name: &str) -> anyhow::Result<&'a str> {
    let key = format!("'{name}':");
    let (_, rest) = header
        .split_once(&key)
        .with_context(|| format!("its header has no `{name}`"))?;
    Ok(rest.trim_start())
}

fn shape(text: &str) -> anyhow::Result<Vec<usize>> {
    let inner = text
        .strip_prefix('(')
        .and_then(|rest| rest.split(')').next())
        .context("its header has no shape")?;
    inner
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(|part| part.parse().context("its header has no shape"))
        .collect()
}

/// The elements, of a type as NumPy writes it.
fn numbers(kind: &str, bytes: &[u8]) -> anyhow::Result<Vec<f64>> {
    macro_rules! words {
        ($type:ty) => {{
            let (words, rest) = bytes.as_chunks::<{ size_of::<$type>() }>();
            ensure!(rest.is_empty(), "ends within an element");
            words
                .iter()
                .map(|word| <$type>::from_le_bytes(*word) as f64)
                .collect()
        }};
    }
    Ok(match kind {
        "<f4" => words!(f32),
        "<f8" => words!(f64),
        "|u1" | "|b1" => words!(u8),
        "|i1" => words!(i8),
        "<u2" => words!(u16),
        "<i2" => words!(i16),
        "<u4" => words!(u32),
        "<i4" => words!(i32),
        "<i8" => words!(i64),
        "<u8" => words!(u64),
        other => bail!(
            "holds elements of type `{other}`; allowed are little-endian float32, float64, bool and whole \
             numbers: save it.astype(\"float32\")"
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `np.save` writes.
    fn saved(kind: &str, shape: &str, elements: &[u8]) -> Vec<u8> {
        let header = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}");
        let header = format!("{header:<117}\n");
        let mut bytes = MAGIC.to_vec();
        bytes.extend([1, 0]);
        bytes.extend(u16::try_from(header.len()).unwrap().to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(elements);
        bytes
    }

    #[test]
    fn every_type_of_number_is_read() {
        let array = Array::decode(&saved(
            "<i8",
            "(2,)",
            &[[3; 1].as_slice(), &[0; 15]].concat(),
        ));
        assert_eq!(array.unwrap().values, [3.0, 0.0]);
        let array = Array::decode(&saved("|u1", "(2, 1, 2)", &[1, 2, 3, 255])).unwrap();
        assert_eq!((array.rows(), array.row_len()), (2, 2));
        assert_eq!(array.values, [1.0, 2.0, 3.0, 255.0]);
        let array = Array::decode(&saved("<f4", "()", &0.5_f32.to_le_bytes())).unwrap();
        assert_eq!((array.rows(), array.values), (1, vec![0.5]));
    }

    #[test]
    fn what_is_not_an_array_of_numbers_says_why() {
        let says = |bytes: &[u8], expected: &str| {
            let error = Array::decode(bytes).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        says(b"PK", "not a NumPy");
        says(
            &saved("<f4", "(2,)", &[0; 4]),
            "holds 1 elements, its shape [2] has 2",
        );
        says(&saved("<f4", "(1,)", &[0; 5]), "within an element");
        says(&saved("<U3", "(1,)", &[0; 12]), "`<U3`");
        says(&saved("<f4", "(1,)", &[0; 4])[..40], "cut off");
        let fortran =
            String::from_utf8_lossy(&saved("|u1", "(1,)", &[])[10..]).replace("False", "True ");
        let mut bytes = saved("|u1", "(1,)", &[1]);
        bytes.splice(10..10 + fortran.len(), fortran.into_bytes());
        says(&bytes, "Fortran");
    }
}
