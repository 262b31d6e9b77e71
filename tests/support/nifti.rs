//! NIfTI files made by hand, field by field, so that each fault can be put where it belongs.

#![allow(dead_code, reason = "each test binary uses its own part")]

use std::io::Write;

/// A header to be, and what follows it.
#[derive(Clone)]
pub struct Made {
    pub version: u8,
    pub big: bool,
    pub dim: Vec<i64>,
    pub datatype: i16,
    pub bitpix: i16,
    pub pixdim: [f64; 8],
    pub vox_offset: f64,
    pub slope: f64,
    pub inter: f64,
    pub units: u8,
    pub intent: i16,
    pub quaternion: (i16, [f64; 3], [f64; 3]),
    pub rows: (i16, [[f64; 4]; 3]),
    pub magic: [u8; 4],
    pub description: Vec<u8>,
    /// Everything between header and voxels, the extender included.
    pub gap: Vec<u8>,
}

/// Bits of a voxel.
pub fn bits(datatype: i16) -> i16 {
    match datatype {
        2 | 256 => 8,
        4 | 512 => 16,
        8 | 16 | 768 => 32,
        _ => 64,
    }
}

impl Made {
    /// A 3-D volume with a unit sform.
    pub fn new(shape: [usize; 3], datatype: i16) -> Self {
        let [x, y, z] = shape.map(|n| n as i64);
        Self {
            version: 1,
            big: false,
            dim: vec![3, x, y, z, 1, 1, 1, 1],
            datatype,
            bitpix: bits(datatype),
            pixdim: [1.0; 8],
            vox_offset: 352.0,
            slope: 1.0,
            inter: 0.0,
            units: 2,
            intent: 0,
            quaternion: (0, [0.0; 3], [0.0; 3]),
            rows: (
                1,
                [
                    [1.0, 0.0, 0.0, -3.0],
                    [0.0, 1.0, 0.0, 4.0],
                    [0.0, 0.0, 1.0, 5.0],
                ],
            ),
            magic: *b"n+1\0",
            description: b"made by hand".to_vec(),
            gap: vec![0; 4],
        }
    }

    pub fn version_two(mut self) -> Self {
        self.version = 2;
        self.magic = *b"n+2\0";
        self.vox_offset = 544.0;
        self
    }

    pub fn big_endian(mut self) -> Self {
        self.big = true;
        self
    }

    pub fn voxels(&self) -> usize {
        self.dim[1..4].iter().product::<i64>() as usize
    }

    fn put(&self, raw: &mut [u8], at: usize, mut little: Vec<u8>) {
        if self.big {
            little.reverse();
        }
        raw[at..at + little.len()].copy_from_slice(&little);
    }

    pub fn header(&self) -> Vec<u8> {
        let mut raw = vec![0; if self.version == 1 { 348 } else { 540 }];
        let r = &mut raw;
        if self.version == 1 {
            self.put(r, 0, 348_i32.to_le_bytes().into());
            for (i, &n) in self.dim.iter().enumerate() {
                self.put(r, 40 + 2 * i, (n as i16).to_le_bytes().into());
            }
            self.put(r, 68, self.intent.to_le_bytes().into());
            self.put(r, 70, self.datatype.to_le_bytes().into());
            self.put(r, 72, self.bitpix.to_le_bytes().into());
            let mut real = |at: usize, v: f64| self.put(r, at, (v as f32).to_le_bytes().into());
            (0..8).for_each(|i| real(76 + 4 * i, self.pixdim[i]));
            real(108, self.vox_offset);
            real(112, self.slope);
            real(116, self.inter);
            (0..3).for_each(|i| real(256 + 4 * i, self.quaternion.1[i]));
            (0..3).for_each(|i| real(268 + 4 * i, self.quaternion.2[i]));
            (0..12).for_each(|i| real(280 + 4 * i, self.rows.1[i / 4][i % 4]));
            r[123] = self.units;
            r[148..148 + self.description.len()].copy_from_slice(&self.description);
            self.put(r, 252, self.quaternion.0.to_le_bytes().into());
            self.put(r, 254, self.rows.0.to_le_bytes().into());
            r[344..348].copy_from_slice(&self.magic);
        } else {
            self.put(r, 0, 540_i32.to_le_bytes().into());
            r[4..8].copy_from_slice(&self.magic);
            r[8..12].copy_from_slice(b"\r\n\x1a\n");
            self.put(r, 12, self.datatype.to_le_bytes().into());
            self.put(r, 14, self.bitpix.to_le_bytes().into());
            for (i, &n) in self.dim.iter().enumerate() {
                self.put(r, 16 + 8 * i, n.to_le_bytes().into());
            }
            self.put(r, 168, (self.vox_offset as i64).to_le_bytes().into());
            let mut real = |at: usize, v: f64| self.put(r, at, v.to_le_bytes().into());
            (0..8).for_each(|i| real(104 + 8 * i, self.pixdim[i]));
            real(176, self.slope);
            real(184, self.inter);
            (0..3).for_each(|i| real(352 + 8 * i, self.quaternion.1[i]));
            (0..3).for_each(|i| real(376 + 8 * i, self.quaternion.2[i]));
            (0..12).for_each(|i| real(400 + 8 * i, self.rows.1[i / 4][i % 4]));
            r[240..240 + self.description.len()].copy_from_slice(&self.description);
            self.put(r, 344, i32::from(self.quaternion.0).to_le_bytes().into());
            self.put(r, 348, i32::from(self.rows.0).to_le_bytes().into());
            self.put(r, 500, i32::from(self.units).to_le_bytes().into());
            self.put(r, 504, i32::from(self.intent).to_le_bytes().into());
        }
        raw
    }

    /// The voxels' bytes.
    pub fn encode(&self, values: &[f64]) -> Vec<u8> {
        let bytes = |v: f64| -> Vec<u8> {
            let mut bytes: Vec<u8> = match self.datatype {
                2 => (v as u8).to_le_bytes().into(),
                256 => (v as i8).to_le_bytes().into(),
                4 => (v as i16).to_le_bytes().into(),
                512 => (v as u16).to_le_bytes().into(),
                8 => (v as i32).to_le_bytes().into(),
                768 => (v as u32).to_le_bytes().into(),
                1024 => (v as i64).to_le_bytes().into(),
                1280 => (v as u64).to_le_bytes().into(),
                16 => (v as f32).to_le_bytes().into(),
                _ => v.to_le_bytes().into(),
            };
            if self.big {
                bytes.reverse();
            }
            bytes
        };
        values.iter().flat_map(|&v| bytes(v)).collect()
    }

    /// The whole file with these voxels.
    pub fn file(&self, values: &[f64]) -> Vec<u8> {
        [self.header(), self.gap.clone(), self.encode(values)].concat()
    }

    /// The whole file with voxels 0, 1, 2 and so on, modulo 100.
    pub fn counting(&self) -> Vec<u8> {
        self.file(
            &(0..self.voxels())
                .map(|i| (i % 100) as f64)
                .collect::<Vec<_>>(),
        )
    }
}

/// One gzip member.
pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("in memory");
    encoder.finish().expect("in memory")
}
