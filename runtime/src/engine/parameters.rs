//! The tensors that training carries from step to step, on two sides.

use super::ffi::TensorSet;
use super::params::{self, ParamsError, ParamsProblem, Progress};
use super::piece::{PIECE, Piece};
use super::signature::{ModelProblem, TensorSpec};
use std::path::Path;

/// One of the two copies of the parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    A,
    B,
}

impl Side {
    pub(super) const BOTH: [Self; 2] = [Self::A, Self::B];

    /// Position in an array with one element per side.
    pub(super) const fn index(self) -> usize {
        self as usize
    }

    pub(super) const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// Parameters and optimizer state of a model, in memory with fixed addresses.
///
/// Two sides: the current one, which inference and the next training step read, and a spare one, which that
/// step writes. A successful step makes the spare side the current one. Sessions are bound to both sides when
/// they are loaded; running one takes the parameters as an argument, so that the borrow checker keeps a step
/// and an inference on two threads from touching them at once.
pub struct Parameters {
    specs: Vec<TensorSpec>,
    // Tensor i of side A at 2 i, of side B at 2 i + 1.
    tensors: TensorSet,
    current: Side,
}

impl Parameters {
    /// Both sides zero.
    pub(super) fn zeroed(specs: Vec<TensorSpec>) -> Result<Self, ModelProblem> {
        let tensors = TensorSet::zeroed(specs.iter().flat_map(|spec| [spec, spec]))
            .ok_or(ModelProblem::Memory)?;
        Ok(Self {
            specs,
            tensors,
            current: Side::A,
        })
    }

    /// Names and shapes, in the order of the model's inputs.
    #[must_use]
    pub fn specs(&self) -> &[TensorSpec] {
        &self.specs
    }

    /// Current value of the tensor called `name`. Does not allocate.
    #[must_use]
    pub fn tensor(&self, name: &str) -> Option<&[f32]> {
        let index = self.specs.iter().position(|spec| spec.name == name)?;
        Some(self.tensors.get(Self::place(index, self.current)))
    }

    /// The current value of every tensor, in the order of the model's inputs. Does not allocate.
    pub fn values(&self) -> impl Iterator<Item = &[f32]> {
        (0..self.specs.len()).map(|index| self.tensors.get(Self::place(index, self.current)))
    }

    /// Parameters of their own with the tensors of these names and their current values, for inference that
    /// is to see trained weights only when told so. Takes twice their memory.
    ///
    /// # Errors
    /// There is not enough memory.
    pub fn twin(&self, names: &[String]) -> Result<Self, ModelProblem> {
        let specs = self.specs.iter();
        let specs = specs.filter(|spec| names.contains(&spec.name)).cloned();
        let mut twin = Self::zeroed(specs.collect())?;
        let mut first = 0;
        while twin.copy_piece(self, first) {
            first += PIECE;
        }
        twin.exchange_sides();
        Ok(twin)
    }

    /// Copies [`PIECE`] elements, from element `first` on, of the current values of those whose twin this is
    /// to the spare side; whether some are left. Does not allocate.
    pub fn copy_piece(&mut self, whole: &Self, first: usize) -> bool {
        let (mut piece, spare) = (Piece::at(first), self.current.other());
        // A twin has the tensors in the same order.
        let mut theirs = whole.specs.iter().enumerate();
        for (index, spec) in self.specs.iter().enumerate() {
            let Some((their, _)) = theirs.find(|(_, their)| their.name == spec.name) else {
                return false;
            };
            let from = whole.tensors.get(Self::place(their, whole.current));
            let to = self.tensors.get_mut(Self::place(index, spare));
            if piece.copy(from, to) {
                return true;
            }
        }
        false
    }

    /// Writes the current values to a parameter file, durably; with `progress` to a checkpoint. For use
    /// outside the loop.
    ///
    /// # Errors
    /// As [`params::write`].
    pub fn save(&self, path: &Path, progress: Option<&Progress>) -> Result<(), ParamsError> {
        params::write(path, self.values(), progress)
    }

    /// Takes the current values from a parameter file, and returns where training stood if it is a
    /// checkpoint.
    ///
    /// # Errors
    /// As [`params::read`], or when the file's tensors are not this model's, or `step` is given and the
    /// file is a checkpoint of a step with another SHA-256; nothing is changed then.
    pub fn restore(
        &mut self,
        path: &Path,
        step: Option<&[u8; 32]>,
    ) -> Result<Option<Progress>, ParamsError> {
        let content = params::read(path)?;
        let found = content.tensors.len();
        let other = content.progress.as_ref().zip(step);
        let taken = match other {
            Some((progress, step)) if progress.step != *step => Err(ParamsProblem::OtherStep),
            _ => self.take(&content.tensors, found),
        };
        taken.map_err(|problem| ParamsError {
            path: path.to_owned(),
            problem,
        })?;
        Ok(content.progress)
    }

    /// As [`Parameters::restore`], from a file that may hold more tensors after this model's.
    pub(super) fn restore_first(&mut self, path: &Path) -> Result<(), ParamsError> {
        let values = params::read(path)?.tensors;
        let found = values.len().min(self.specs.len());
        self.take(&values, found).map_err(|problem| ParamsError {
            path: path.to_owned(),
            problem,
        })
    }

    fn take(&mut self, values: &[Vec<f32>], found: usize) -> Result<(), ParamsProblem> {
        if found != self.specs.len() {
            return Err(ParamsProblem::Tensors {
                expected: self.specs.len(),
                found,
            });
        }
        for (spec, value) in self.specs.iter().zip(values) {
            if spec.count() != Some(value.len()) {
                return Err(ParamsProblem::Elements {
                    name: spec.name.clone(),
                    expected: spec.count().unwrap_or(usize::MAX),
                    found: value.len(),
                });
            }
        }
        for (index, value) in values.iter().take(found).enumerate() {
            let place = Self::place(index, self.current);
            self.tensors.get_mut(place).copy_from_slice(value);
        }
        Ok(())
    }

    pub(super) fn place(index: usize, side: Side) -> usize {
        2 * index + side.index()
    }

    pub(super) fn current(&self) -> Side {
        self.current
    }

    /// Makes the spare side the current one.
    pub(crate) fn exchange_sides(&mut self) {
        self.current = self.current.other();
    }

    pub(super) fn set(&self) -> &TensorSet {
        &self.tensors
    }

    pub(super) fn set_mut(&mut self) -> &mut TensorSet {
        &mut self.tensors
    }
}
