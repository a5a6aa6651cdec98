//! Everything of the engine that the compiler cannot check, behind a safe interface.
//!
//! - [`TensorSet`]: tensor memory that ONNX Runtime reads and writes by address;
//! - [`Binding`]: a prebuilt assignment of a session's inputs and outputs to tensors, and the one raw call
//!   that runs it. `ort`'s own `run_binding` allocates two Rust blocks per output and run, its `bind_input`
//!   copies borrowed tensors; so both go to the C interface directly. An input that another device computes from is
//!   copied there by `BindInput`, once: so such a session is not bound but given its tensors with every run;
//! - [`limit_memory`]: one arena for the sessions of an environment;
//! - [`version_of`]: the version string of a library that is not loaded yet;
//! - [`keep_freed_memory`], which is `mallopt`.
//!
//! **Invariant.** While a run reads or writes a tensor set, no Rust reference to its memory exists:
//! [`Binding::run`] borrows the sets it was built over, mutably where it writes, and refuses any other set.
#![expect(
    unsafe_code,
    reason = "calls into ONNX Runtime's C interface and memory shared with it"
)]

use super::signature::{Element, TensorSpec};
use ort::AsPointer;
use ort::environment::Environment;
use ort::memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType};
use ort::session::{IoBinding, RunOptions, Session, SharedSessionInner};
use ort::value::{DynValueRefMut, Shape, TensorRefMut};
use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ffi::{CStr, CString, c_char, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::Arc;

/// Alignment of every tensor: a cache line, and what the widest vector instructions want.
const ALIGNMENT_BYTES: usize = 64;

/// Longest error message kept, in bytes; a longer one is cut.
pub(super) const MESSAGE_BYTES: usize = 512;

/// An error message of ONNX Runtime in fixed memory.
pub(super) type Message = heapless::String<MESSAGE_BYTES>;

/// A Rust type that a tensor element can be.
pub(super) trait ElementType: Copy {
    const ELEMENT: Element;
}

impl ElementType for f32 {
    const ELEMENT: Element = Element::F32;
}

impl ElementType for i64 {
    const ELEMENT: Element = Element::I64;
}

/// One block of memory, zeroed at first, freed with its last owner.
struct Block {
    base: NonNull<u8>,
    layout: Layout,
}

// SAFETY: a block is plain memory; who may read or write it is decided by the borrows of its `TensorSet`.
unsafe impl Send for Block {}
// SAFETY: as above; `Block` itself gives no access to the memory.
unsafe impl Sync for Block {}

impl Block {
    fn zeroed(size_bytes: usize) -> Option<Self> {
        let layout =
            Layout::from_size_align(size_bytes.max(ALIGNMENT_BYTES), ALIGNMENT_BYTES).ok()?;
        // SAFETY: the layout's size is not zero.
        let base = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        Some(Self { base, layout })
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: `base` was allocated with this layout and is freed only here.
        unsafe { dealloc(self.base.as_ptr(), self.layout) }
    }
}

/// A place in a block.
#[derive(Clone, Copy)]
struct Slot {
    offset_bytes: usize,
    count: usize,
    element: Element,
}

/// Tensors in one block of memory with fixed addresses, 64-byte aligned, zero at first.
///
/// The set is the only way to the memory from Rust. Bindings keep the block alive, not the access.
pub(super) struct TensorSet {
    block: Arc<Block>,
    slots: Vec<Slot>,
}

impl TensorSet {
    /// Memory for tensors of these shapes; tensor `i` of the set is `specs[i]`. `None` when there is not
    /// that much memory.
    pub(super) fn zeroed<'a>(specs: impl IntoIterator<Item = &'a TensorSpec>) -> Option<Self> {
        let mut slots = Vec::new();
        let mut size_bytes = 0_usize;
        for spec in specs {
            let count = spec.count()?;
            slots.push(Slot {
                offset_bytes: size_bytes,
                count,
                element: spec.element,
            });
            size_bytes = count
                .checked_mul(spec.element.size_bytes())?
                .checked_next_multiple_of(ALIGNMENT_BYTES)?
                .checked_add(size_bytes)?;
        }
        let block = Arc::new(Block::zeroed(size_bytes)?);
        Some(Self { block, slots })
    }

    /// The elements of tensor `index`.
    ///
    /// # Panics
    /// When there is no such tensor or it holds another type: a mistake of the engine, not of its input.
    pub(super) fn get<T: ElementType>(&self, index: usize) -> &[T] {
        let (first, count) = self.place(index);
        // SAFETY: `place` gives an aligned, initialized range of `count` elements of `T` inside the block,
        // which `self.block` keeps alive; writers need `&mut self`.
        unsafe { std::slice::from_raw_parts(first, count) }
    }

    /// The elements of tensor `index`, to be written.
    ///
    /// # Panics
    /// As [`TensorSet::get`].
    pub(super) fn get_mut<T: ElementType>(&mut self, index: usize) -> &mut [T] {
        let (first, count) = self.place(index);
        // SAFETY: as in `get`, and `&mut self` excludes every other access.
        unsafe { std::slice::from_raw_parts_mut(first, count) }
    }

    /// Two different tensors, both to be written.
    ///
    /// # Panics
    /// As [`TensorSet::get`], and when both are the same.
    pub(super) fn get_two_mut<T: ElementType, U: ElementType>(
        &mut self,
        one: usize,
        other: usize,
    ) -> (&mut [T], &mut [U]) {
        assert_ne!(one, other, "the same tensor twice");
        let ((first, count), (second, second_count)) = (self.place(one), self.place(other));
        // SAFETY: as in `get_mut`; different tensors of a set do not overlap.
        unsafe {
            (
                std::slice::from_raw_parts_mut(first, count),
                std::slice::from_raw_parts_mut(second, second_count),
            )
        }
    }

    fn place<T: ElementType>(&self, index: usize) -> (*mut T, usize) {
        let slot = &self.slots[index];
        assert_eq!(slot.element, T::ELEMENT, "tensor {index} of the set");
        // SAFETY: the offset lies inside the block: `zeroed` made the block long enough for every slot.
        let first = unsafe { self.block.base.add(slot.offset_bytes) };
        (first.cast::<T>().as_ptr(), slot.count)
    }
}

/// What a run does with the parameters' tensors.
pub(super) enum Parameters<'a> {
    /// The model has none.
    None,
    /// Reads some of them.
    Read(&'a TensorSet),
    /// Reads some and writes others.
    Write(&'a mut TensorSet),
}

/// Which set a tensor of a binding is in.
#[derive(Clone, Copy)]
pub(super) enum In {
    /// The session's own: inputs and outputs.
    Own,
    /// The parameters.
    Parameters,
}

/// A tensor to bind: its description, its set and its place there.
pub(super) struct Bound<'a> {
    pub(super) spec: &'a TensorSpec,
    /// Name of the session's input or output; differs from the specification's for `N.new`.
    pub(super) name: &'a str,
    pub(super) set: In,
    pub(super) index: usize,
}

/// Why a run was refused or failed; the text is in the caller's [`Message`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// Another set of tensors than the binding was built over.
    ForeignTensors,
    /// ONNX Runtime's error code (`OrtErrorCode`).
    Status(i32),
}

/// A session with every input and output bound to memory.
pub(super) struct Binding {
    tensors: Tensors,
    session: Arc<SharedSessionInner>,
    own: Arc<Block>,
    parameters: Option<Arc<Block>>,
    writes_parameters: bool,
}

/// A run as ONNX Runtime's `RunWithBinding` takes it, for who calls that without the engine.
///
/// The call reads and writes the tensors of the session and of its parameters: nobody else may use them meanwhile.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    /// The session.
    pub session: &'a SharedSessionInner,
    /// The run's options.
    pub options: &'a RunOptions,
    /// Its inputs and outputs.
    pub binding: &'a IoBinding,
}

/// How a session comes by its tensors.
enum Tensors {
    /// It reads and writes them where they lie.
    Bound(Box<IoBinding>),
    /// Inputs and outputs, which it copies to its device and back with every run.
    Copied([Named; 2]),
}

impl Binding {
    /// Binds a session's inputs and outputs to tensors of `own` and `parameters`, to be copied with every run or not.
    ///
    /// # Errors
    /// ONNX Runtime's refusal, for instance a name the session does not have.
    pub(super) fn new(
        session: &Session,
        copies: bool,
        own: &TensorSet,
        parameters: Option<&TensorSet>,
        inputs: &[Bound<'_>],
        outputs: &[Bound<'_>],
    ) -> Result<Self, ort::Error> {
        let named = |bounds| Named::new(own, parameters, bounds);
        let (inputs_named, outputs_named) = (named(inputs)?, named(outputs)?);
        let tensors = if copies {
            Tensors::Copied([inputs_named, outputs_named])
        } else {
            let (binding, api) = (session.create_binding()?, ort::api());
            inputs_named.bind(api.BindInput, &binding)?;
            outputs_named.bind(api.BindOutput, &binding)?;
            Tensors::Bound(Box::new(binding))
        };
        let writes_parameters = outputs.iter().any(|o| matches!(o.set, In::Parameters));
        Ok(Self {
            tensors,
            session: session.inner(),
            own: Arc::clone(&own.block),
            parameters: parameters.map(|set| Arc::clone(&set.block)),
            writes_parameters,
        })
    }

    /// What [`Binding::run`] calls; `None` where tensors are copied.
    pub(super) fn call<'a>(&'a self, options: &'a RunOptions) -> Option<Call<'a>> {
        match &self.tensors {
            Tensors::Bound(binding) => Some(Call {
                session: &self.session,
                options,
                binding,
            }),
            Tensors::Copied(_) => None,
        }
    }

    /// Runs the session once. Does not allocate in Rust, whether it succeeds or fails.
    ///
    /// # Errors
    /// [`Failure::ForeignTensors`] before anything ran; [`Failure::Status`] when ONNX Runtime reports an
    /// error or was told to stop, with its text in `message`. Outputs are then undefined, inputs untouched.
    pub(super) fn run(
        &mut self,
        options: &RunOptions,
        own: &mut TensorSet,
        parameters: Parameters<'_>,
        message: &mut Message,
    ) -> Result<(), Failure> {
        let parameters_fit = match (&self.parameters, &parameters) {
            (None, _) => true,
            (Some(block), Parameters::Write(set)) => Arc::ptr_eq(block, &set.block),
            (Some(block), Parameters::Read(set)) => {
                !self.writes_parameters && Arc::ptr_eq(block, &set.block)
            }
            (Some(_), Parameters::None) => false,
        };
        if !Arc::ptr_eq(&self.own, &own.block) || !parameters_fit {
            set_message(
                message,
                "the tensors are not those the session was bound to",
            );
            return Err(Failure::ForeignTensors);
        }
        let (api, session) = (ort::api(), self.session.ptr().cast_mut());
        let status = match &mut self.tensors {
            // SAFETY: session, options and binding are alive. The memory bound to them is that of `own` and
            // `parameters`, which this call borrows, mutably where the session writes.
            Tensors::Bound(binding) => unsafe {
                (api.RunWithBinding)(session, options.ptr(), binding.ptr())
            },
            // SAFETY: as above, and the arrays have the lengths that are given. No output is null, so that none is
            // made by ONNX Runtime.
            Tensors::Copied([inputs, outputs]) => unsafe {
                (api.Run)(
                    session,
                    options.ptr(),
                    inputs.names.as_ptr(),
                    inputs.pointers.as_ptr().cast(),
                    inputs.names.len(),
                    outputs.names.as_ptr(),
                    outputs.names.len(),
                    outputs.pointers.as_mut_ptr(),
                )
            },
        };
        match NonNull::new(status.0) {
            None => Ok(()),
            Some(status) => Err(taken(status, message)),
        }
    }
}

/// Tensors by their names in a session, in arrays as the C interface takes them.
struct Named {
    names: Vec<*const c_char>,
    pointers: Vec<*mut ort::sys::OrtValue>,
    // What the pointers point to.
    texts: Vec<CString>,
    values: Vec<DynValueRefMut<'static>>,
}

// SAFETY: the pointers are to what the struct owns; the values' memory is that of tensor sets, whose borrows decide who
// may use it.
unsafe impl Send for Named {}
// SAFETY: as above; shared, a `Named` gives no access.
unsafe impl Sync for Named {}

impl Named {
    fn new(
        own: &TensorSet,
        parameters: Option<&TensorSet>,
        bounds: &[Bound<'_>],
    ) -> Result<Self, ort::Error> {
        let (mut texts, mut values) = (Vec::new(), Vec::new());
        for bound in bounds {
            let set = match bound.set {
                In::Own => own,
                In::Parameters => {
                    parameters.ok_or_else(|| ort::Error::new("a model without parameters"))?
                }
            };
            values.push(match bound.spec.element {
                Element::F32 => value::<f32>(set, bound)?,
                Element::I64 => value::<i64>(set, bound)?,
            });
            texts.push(CString::new(bound.name)?);
        }
        Ok(Self {
            names: texts.iter().map(|text| text.as_ptr()).collect(),
            pointers: values.iter().map(|value| value.ptr().cast_mut()).collect(),
            texts,
            values,
        })
    }

    /// Binds every tensor.
    fn bind(&self, bind: Bind, binding: &IoBinding) -> Result<(), ort::Error> {
        for (text, value) in self.texts.iter().zip(&self.values) {
            // SAFETY: binding, name and value are alive. ONNX Runtime keeps a reference to the value, whose memory
            // the `Binding` keeps alive.
            let status = unsafe { bind(binding.ptr().cast_mut(), text.as_ptr(), value.ptr()) };
            // SAFETY: `status` is null or a status that nobody else owns.
            unsafe { ort::Error::result_from_status(status) }?;
        }
        Ok(())
    }
}

/// Copies a status's text into fixed memory and releases the status.
fn taken(status: NonNull<ort::sys::OrtStatus>, message: &mut Message) -> Failure {
    let api = ort::api();
    // SAFETY: the status is alive until it is released below; its text is a C string that it owns.
    let (code, text) = unsafe {
        let text = CStr::from_ptr((api.GetErrorMessage)(status.as_ptr()));
        ((api.GetErrorCode)(status.as_ptr()), text)
    };
    set_message(message, text.to_str().unwrap_or("(not UTF-8)").trim_end());
    // SAFETY: nobody else owns the status, and `text` is not used any more.
    unsafe { (api.ReleaseStatus)(status.as_ptr()) };
    Failure::Status(code as i32)
}

/// Replaces a message, cutting what does not fit between two characters.
fn set_message(message: &mut Message, text: &str) {
    message.clear();
    for character in text.chars() {
        if message.push(character).is_err() {
            break;
        }
    }
}

/// `BindInput` or `BindOutput` of the C interface.
type Bind = unsafe extern "system" fn(
    *mut ort::sys::OrtIoBinding,
    *const c_char,
    *const ort::sys::OrtValue,
) -> ort::sys::OrtStatusPtr;

/// A tensor in `set` as ONNX Runtime knows it.
fn value<T>(set: &TensorSet, bound: &Bound<'_>) -> Result<DynValueRefMut<'static>, ort::Error>
where
    T: ElementType + ort::value::PrimitiveTensorElementType + std::fmt::Debug,
{
    let (first, count) = set.place::<T>(bound.index);
    assert_eq!(Some(count), bound.spec.count(), "tensor {}", bound.name);
    let shape = Shape::new(bound.spec.dims.iter().copied());
    // SAFETY: `first` points to `count` elements, which is the product of the shape. The `Binding` that the value is
    // for keeps them alive.
    let value = unsafe {
        TensorRefMut::<T>::from_raw(MemoryInfo::default(), first.cast::<c_void>(), shape)
    }?;
    Ok(value.into_dyn())
}

/// Gives an environment an arena of at most so many bytes in the CPU's memory, for the sessions that ask for the
/// environment's. It asks the system once, for all of them, when a session first needs some.
///
/// # Errors
/// ONNX Runtime's refusal.
pub(super) fn limit_memory(
    environment: &Environment,
    limit_bytes: usize,
) -> Result<(), ort::Error> {
    // Keys of `CreateArenaCfgV2` (onnxruntime_c_api.h).
    let keys = [c"max_mem".as_ptr(), c"initial_chunk_size_bytes".as_ptr()];
    let values = [limit_bytes; 2];
    let place = MemoryInfo::new(
        AllocationDevice::CPU,
        0,
        AllocatorType::Arena,
        MemoryType::Default,
    )?;
    let (api, mut config) = (ort::api(), std::ptr::null_mut());
    // SAFETY: keys and values are as many as is said, and `config` is where to put the answer.
    let status = unsafe {
        (api.CreateArenaCfgV2)(keys.as_ptr(), values.as_ptr(), keys.len(), &raw mut config)
    };
    // SAFETY: `status` is null or a status that nobody else owns.
    unsafe { ort::Error::result_from_status(status) }?;
    // SAFETY: environment, place and configuration are alive; the configuration is copied.
    let status = unsafe {
        (api.CreateAndRegisterAllocator)(environment.ptr().cast_mut(), place.ptr(), config)
    };
    // SAFETY: the configuration was made above and is not used any more.
    unsafe { (api.ReleaseArenaCfg)(config) };
    // SAFETY: as for the first one.
    unsafe { ort::Error::result_from_status(status) }
}

/// Why a file is not a usable ONNX Runtime library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum OpenFailure {
    /// The dynamic loader's reason.
    Loader(String),
    /// It does not export `OrtGetApiBase`.
    NotOnnxRuntime,
}

/// The version string of the library at `path`, for instance `1.23.2`.
///
/// The library stays loaded: unloading it again would run its destructors under threads it may have started.
///
/// # Errors
/// When the dynamic loader refuses the file or it is no ONNX Runtime.
pub(super) fn version_of(path: &Path) -> Result<String, OpenFailure> {
    let name = CString::new(path.as_os_str().as_bytes())
        .map_err(|_| OpenFailure::Loader("the path holds a zero byte".to_owned()))?;
    // SAFETY: `name` is a C string. Loading runs the library's constructors: what the user asked for.
    let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    if handle.is_null() {
        // SAFETY: `dlerror` returns null or a C string that stays until this thread's next call.
        let reason = unsafe { libc::dlerror().as_ref().map(|text| CStr::from_ptr(text)) };
        let reason = reason.map_or("no reason given".into(), CStr::to_string_lossy);
        return Err(OpenFailure::Loader(reason.into_owned()));
    }
    // SAFETY: `handle` is open and the name is a C string.
    let symbol = unsafe { libc::dlsym(handle, c"OrtGetApiBase".as_ptr()) };
    if symbol.is_null() {
        return Err(OpenFailure::NotOnnxRuntime);
    }
    type GetApiBase = unsafe extern "C" fn() -> *const ort::sys::OrtApiBase;
    // SAFETY: this is the documented signature of `OrtGetApiBase` (onnxruntime_c_api.h).
    let get_base = unsafe { std::mem::transmute::<*mut c_void, GetApiBase>(symbol) };
    // SAFETY: the function takes no arguments and returns a pointer to a static table or null.
    let base = unsafe { get_base().as_ref() }.ok_or(OpenFailure::NotOnnxRuntime)?;
    // SAFETY: the table's function returns a static C string.
    let version = unsafe { CStr::from_ptr((base.GetVersionString)() as *const c_char) };
    Ok(version.to_string_lossy().into_owned())
}

/// Tells the C allocator to keep freed memory (`M_TRIM_THRESHOLD` = -1) and to serve large blocks from the
/// heap (`M_MMAP_MAX` = 0): memory once touched is not returned to the kernel, so a later run does not fault.
/// Returns false where the allocator refuses.
#[must_use]
pub(super) fn keep_freed_memory() -> bool {
    // SAFETY: `mallopt` takes two integers and changes parameters of the allocator only.
    unsafe {
        libc::mallopt(libc::M_TRIM_THRESHOLD, -1) == 1 && libc::mallopt(libc::M_MMAP_MAX, 0) == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(name: &str, element: Element, dims: &[i64]) -> TensorSpec {
        TensorSpec {
            name: name.to_owned(),
            element,
            dims: dims.iter().copied().collect(),
        }
    }

    #[test]
    fn tensors_are_zero_aligned_and_do_not_overlap() {
        let specs = [
            spec("a", Element::F32, &[3, 5]),
            spec("b", Element::I64, &[7]),
            spec("scalar", Element::F32, &[]),
            spec("none", Element::F32, &[0, 4]),
            spec("c", Element::F32, &[16]),
        ];
        let mut set = TensorSet::zeroed(&specs).unwrap();
        let lengths = [0, 2, 3, 4].map(|index| set.get::<f32>(index).len());
        assert_eq!(lengths, [15, 1, 0, 16]);
        for index in [0, 2, 4] {
            assert_eq!(set.get::<f32>(index).as_ptr() as usize % ALIGNMENT_BYTES, 0);
            assert!(set.get::<f32>(index).iter().all(|&value| value == 0.0));
        }
        assert_eq!(set.get::<i64>(1), [0; 7]);
        set.get_mut::<f32>(0).fill(1.0);
        let (b, c) = set.get_two_mut::<i64, f32>(1, 4);
        b.fill(-1);
        c.fill(2.0);
        assert_eq!(set.get::<f32>(0), [1.0; 15]);
        assert_eq!(set.get::<i64>(1), [-1; 7]);
        assert_eq!(set.get::<f32>(2), [0.0]);
        assert_eq!(set.get::<f32>(4), [2.0; 16]);
    }

    #[test]
    fn a_set_larger_than_the_address_space_is_refused() {
        let huge = spec("x", Element::F32, &[1 << 40, 1 << 40]);
        assert!(TensorSet::zeroed([&huge]).is_none());
        let most = spec("x", Element::I64, &[i64::MAX / 8]);
        assert!(TensorSet::zeroed([&most, &most]).is_none());
    }

    #[test]
    fn a_tensor_is_not_read_as_another_type() {
        let set = TensorSet::zeroed([&spec("x", Element::I64, &[2])]).unwrap();
        assert!(std::panic::catch_unwind(|| set.get::<f32>(0).len()).is_err());
    }

    #[test]
    fn a_long_message_is_cut_between_two_characters() {
        let mut message = Message::new();
        set_message(&mut message, &"ä".repeat(MESSAGE_BYTES));
        assert_eq!(message.len(), MESSAGE_BYTES);
        assert!(message.chars().all(|character| character == 'ä'));
        set_message(&mut message, &format!("a{}", "ä".repeat(MESSAGE_BYTES)));
        assert_eq!(message.len(), MESSAGE_BYTES - 1);
        set_message(&mut message, "short");
        assert_eq!(message, "short");
    }
}
