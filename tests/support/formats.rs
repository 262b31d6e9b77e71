//! MGH and NRRD files made by hand, so that each fault can be put where it belongs.

#![allow(dead_code, reason = "each test binary uses its own part")]

/// An MGH file to be.
#[derive(Clone)]
pub struct Mgh {
    pub version: i32,
    /// Three axes and frames.
    pub dims: [i32; 4],
    pub datatype: i32,
    pub good_ras: i16,
    pub delta: [f32; 3],
    /// A row for each axis.
    pub mdc: [[f32; 3]; 3],
    pub middle: [f32; 3],
    /// The voxels' bytes and what follows.
    pub data: Vec<u8>,
}

impl Mgh {
    /// A volume of bytes with the axes right, anterior, superior.
    pub fn new(shape: [usize; 3], data: Vec<u8>) -> Self {
        let [x, y, z] = shape.map(|n| n as i32);
        Self {
            version: 1,
            dims: [x, y, z, 1],
            datatype: 0,
            good_ras: 1,
            delta: [1.0; 3],
            mdc: [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
            middle: [0.0; 3],
            data,
        }
    }

    pub fn file(&self) -> Vec<u8> {
        let mut raw = Vec::new();
        let ints = [&[self.version], &self.dims[..], &[self.datatype, 0]].concat();
        ints.iter().for_each(|n| raw.extend(n.to_be_bytes()));
        raw.extend(self.good_ras.to_be_bytes());
        let reals = [&self.delta[..], self.mdc.as_flattened(), &self.middle].concat();
        reals.iter().for_each(|v| raw.extend(v.to_be_bytes()));
        raw.resize(284, 0);
        raw.extend(&self.data);
        raw
    }
}

/// The header of a volume of bytes in one NRRD file, without the empty line at its end.
pub fn nrrd(shape: [usize; 3]) -> String {
    let [x, y, z] = shape;
    format!(
        "NRRD0004\ntype: uchar\ndimension: 3\nsizes: {x} {y} {z}\nencoding: raw\n\
         space: right-anterior-superior\nspace directions: (1,0,0) (0,1,0) (0,0,1)\nspace origin: (-2,1,0)\n"
    )
}

/// Header and voxels.
pub fn joined(header: &str, data: &[u8]) -> Vec<u8> {
    [header.as_bytes(), b"\n", data].concat()
}
