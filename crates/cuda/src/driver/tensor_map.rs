//! Arrays as Hopper's copy engine (TMA) sees them.

use super::span::Span;
use cudarc::driver::sys;
use s4_backend::{Code, Error, Result};
use std::ffi::c_void;

/// What the numbers of a mapped array are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ElementType {
    F16,
    F32,
}

/// An array as Hopper's copy engine takes boxes of it (`kernels/common/tma.cuh`): rows of 128 or 64 bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TensorMap {
    pub(super) map: sys::CUtensorMap,
    /// The array.
    pub(super) span: Span,
}

/// An array as the driver is told of it: its elements' kind and bytes, extents from the fast index on, and strides of the others in bytes.
struct MappedArray {
    kind: sys::CUtensorMapDataType_enum,
    size: usize,
    extents: [u64; 3],
    strides: [u64; 2],
}

impl TensorMap {
    /// `span` as (matrices, rows, columns), columns the fast index, in boxes of `height` rows of `width` bytes, 128 or 64. Addresses and
    /// rows are multiples of 16 bytes.
    pub(crate) fn new(
        op: &'static str,
        span: Span,
        element_type: ElementType,
        (matrices, rows, columns): (usize, usize, usize),
        (height, width): (usize, usize),
    ) -> Result<TensorMap> {
        use sys::CUtensorMapDataType_enum as Type;
        let (kind, size) = match element_type {
            ElementType::F16 => (Type::CU_TENSOR_MAP_DATA_TYPE_FLOAT16, 2),
            ElementType::F32 => (Type::CU_TENSOR_MAP_DATA_TYPE_FLOAT32, 4),
        };
        let extents = [columns as u64, rows as u64, matrices as u64];
        let strides = [(columns * size) as u64, (columns * rows * size) as u64];
        let array = MappedArray { kind, size, extents, strides };
        TensorMap::encoded(op, span, &array, (height, width))
    }

    /// `span` of f16 with these extents and strides of the second and the third index, in elements, in boxes of `height` along the second
    /// index and 64 along the first.
    pub(crate) fn of_f16(
        op: &'static str,
        span: Span,
        extents: [usize; 3],
        strides: [usize; 2],
        height: usize,
    ) -> Result<TensorMap> {
        let array = MappedArray {
            kind: sys::CUtensorMapDataType_enum::CU_TENSOR_MAP_DATA_TYPE_FLOAT16,
            size: 2,
            extents: extents.map(|n| n as u64),
            strides: strides.map(|n| 2 * n as u64),
        };
        TensorMap::encoded(op, span, &array, (height, 128))
    }

    /// The map of an array in boxes of `height` rows of `width` bytes.
    fn encoded(
        op: &'static str,
        span: Span,
        array: &MappedArray,
        (height, width): (usize, usize),
    ) -> Result<TensorMap> {
        use sys::CUtensorMapSwizzle_enum as Swizzle;
        let &MappedArray { kind, size, extents, strides } = array;
        let swizzle = match width {
            128 => Swizzle::CU_TENSOR_MAP_SWIZZLE_128B,
            64 => Swizzle::CU_TENSOR_MAP_SWIZZLE_64B,
            other => panic!("rows of {other} bytes"),
        };
        assert!(
            extents.iter().product::<u64>() * size as u64 <= span.bytes() as u64,
            "a map beyond its array"
        );
        let (shape, every) = ([(width / size) as u32, height as u32, 1], [1u32; 3]);
        let mut map = sys::CUtensorMap { opaque: [0; 16] };
        // SAFETY: the driver writes a map and reads arrays of its rank; the array lies inside one live allocation.
        let result = unsafe {
            sys::cuTensorMapEncodeTiled(
                &raw mut map,
                kind,
                3,
                span.ptr() as *mut c_void,
                extents.as_ptr(),
                strides.as_ptr(),
                shape.as_ptr(),
                every.as_ptr(),
                sys::CUtensorMapInterleave_enum::CU_TENSOR_MAP_INTERLEAVE_NONE,
                swizzle,
                sys::CUtensorMapL2promotion_enum::CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                sys::CUtensorMapFloatOOBfill_enum::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
            )
        };
        match result {
            sys::CUresult::CUDA_SUCCESS => Ok(TensorMap { map, span }),
            e => Err(Error::new(
                Code::Internal,
                op,
                format!("an array to map, {extents:?} {kind:?}"),
                format!("{e:?}"),
            )),
        }
    }
}
