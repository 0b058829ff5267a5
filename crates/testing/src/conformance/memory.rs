//! Conformance tests of memory: allocation, transfers, views, and operations on whole buffers.

use super::suite::{CaseLabel, GUARD_ELEMENTS, GUARD_VALUE, OutputBuffer, Suite, added_part, into_array};
use s4_backend::{Backend, EmbeddingForward, Scalar, SeqShape};

impl<B: Backend> Suite<'_, B> {
    pub(super) fn memory(&mut self) {
        for len in self.cases(&[1, 7, 63, 64, 65, 130, 70_001], &[1, 65]) {
            self.transfer_cases(len);
            self.whole_buffer_cases(len);
            self.async_download_case(len);
            self.replay_case(len);
            self.finite_case(len);
        }
        for len in self.cases(&[1, 7, 65, 1000], &[7]) {
            self.integer_case(len);
        }
        let shapes = [(1, 1, 9), (3, 33, 70), (2, 128, 5), (1, 65, 63)];
        for (batch, rows, cols) in self.cases(&shapes, &shapes[..1]) {
            self.transpose_case(batch, rows, cols);
        }
        self.view_cases();
    }

    /// The elements of a view.
    fn read(&self, view: B::Ref<'_>) -> Vec<f64> {
        let mut host = vec![B::Scalar::from_f64(0.0); self.backend.ref_len(view)];
        self.backend.download(&mut host, view).expect("download");
        host.into_iter().map(B::Scalar::to_f64).collect()
    }

    fn to_scalars(x: &[f64]) -> Vec<B::Scalar> {
        x.iter().map(|&x| B::Scalar::from_f64(x)).collect()
    }

    fn transfer_cases(&mut self, len: usize) {
        let (backend, case) = (self.backend, format!("{len}"));
        let label = |operation| CaseLabel { operation, case: &case };
        let mut buf = backend.alloc(len + 2 * GUARD_ELEMENTS).expect("a buffer");
        let whole = 0..len + 2 * GUARD_ELEMENTS;
        self.check_exact(label("alloc"), "buffer", &self.download(&buf), &vec![0.0; whole.end]);
        // Tests downloads without relying on uploads: the buffer is filled on the device.
        backend
            .fill(backend.view_mut(&mut buf, whole.clone()), B::Scalar::from_f64(GUARD_VALUE))
            .expect("fill");
        self.check_exact(label("download"), "dst", &self.download(&buf), &vec![GUARD_VALUE; whole.end]);
        let x = self.normal(len);
        backend
            .upload(backend.view_mut(&mut buf, GUARD_ELEMENTS..GUARD_ELEMENTS + len), &Self::to_scalars(&x))
            .expect("upload");
        let side = [GUARD_VALUE; GUARD_ELEMENTS];
        self.check_exact(label("upload"), "dst", &self.download(&buf), &[&side[..], &x, &side].concat());
        let longer = vec![B::Scalar::from_f64(0.0); len + 1];
        let refused = backend.upload(backend.view_mut(&mut buf, 0..len), &longer);
        self.check_holds(label("upload"), "refusal of another length", refused.is_err());
        let refused = backend.download(&mut longer.clone(), backend.view(&buf, 0..len));
        self.check_holds(label("download"), "refusal of another length", refused.is_err());
        let mut host = Self::to_scalars(&x);
        if let Some(view) = backend.host_ref(&host) {
            self.check_exact(label("host_ref"), "view", &self.read(view), &x);
        }
        let filled = backend.host_mut(&mut host).map(|view| backend.fill(view, B::Scalar::from_f64(0.5)));
        if let Some(filled) = filled {
            filled.expect("fill");
            self.check_exact(label("host_mut"), "view", &crate::wide(&host), &vec![0.5; len]);
        }
    }

    fn whole_buffer_cases(&mut self, len: usize) {
        let (backend, case) = (self.backend, format!("{len}"));
        let label = |operation| CaseLabel { operation, case: &case };
        let got = self.outputs_of(label("fill"), &[], &[], &[OutputBuffer::Overwritten(len)], &mut |a, _| {
            let [dst] = into_array(a.outs);
            backend.fill(dst, B::Scalar::from_f64(3.5))
        });
        got.iter().for_each(|got| self.check_exact(label("fill"), "dst", &got[0], &vec![3.5; len]));
        let (x, y) = (self.normal(len), self.normal(len));
        let got =
            self.outputs_of(label("copy"), &[&x], &[], &[OutputBuffer::Overwritten(len)], &mut |a, _| {
                let ([dst], [src]) = (into_array(a.outs), into_array(a.ins));
                backend.copy(dst, src)
            });
        got.iter().for_each(|got| self.check_exact(label("copy"), "dst", &got[0], &x));
        let got = self.outputs_of(label("axpy"), &[&x], &[], &[OutputBuffer::AddedTo(&y)], &mut |a, _| {
            let ([dst], [src]) = (into_array(a.outs), into_array(a.ins));
            backend.axpy(dst, B::Scalar::from_f64(-1.5), src)
        });
        let want: Vec<f64> = x.iter().map(|x| -1.5 * x).collect();
        got.iter().for_each(|got| self.check_output(label("axpy"), "dst", &added_part(&got[0], &y), &want));
    }

    fn transpose_case(&mut self, batch: usize, rows: usize, cols: usize) {
        let (backend, case) = (self.backend, format!("({batch}, {rows}, {cols})"));
        let label = CaseLabel { operation: "transpose", case: &case };
        let x = self.normal(batch * rows * cols);
        let got = self.outputs_of(label, &[&x], &[], &[OutputBuffer::Overwritten(x.len())], &mut |a, _| {
            let ([dst], [src]) = (into_array(a.outs), into_array(a.ins));
            backend.transpose(dst, src, batch, rows, cols)
        });
        let source = |i: usize| (i / (rows * cols) * rows + i % rows) * cols + i / rows % cols;
        let want: Vec<f64> = (0..x.len()).map(|i| x[source(i)]).collect();
        got.iter().for_each(|got| self.check_exact(label, "dst", &got[0], &want));
    }

    /// A download must give the values from the time when it was started, and can be used again.
    fn async_download_case(&mut self, len: usize) {
        let (backend, case) = (self.backend, format!("{len}"));
        let label = CaseLabel { operation: "wait_download", case: &case };
        let mut buf = backend.alloc(len).expect("a buffer");
        let mut download = backend.async_download(len).expect("memory for a download");
        for value in [1.25, -3.0] {
            backend.fill(backend.view_mut(&mut buf, 0..len), B::Scalar::from_f64(value)).expect("fill");
            backend.start_download(&mut download, backend.view(&buf, 0..len)).expect("a download");
            backend.fill(backend.view_mut(&mut buf, 0..len), B::Scalar::from_f64(99.0)).expect("fill");
            let got = crate::wide(backend.wait_download(&mut download).expect("the download"));
            self.check_exact(label, "result", &got, &vec![value; len]);
        }
    }

    /// Replayed operations must give the same as without recording, for several keys and however often.
    fn replay_case(&mut self, len: usize) {
        let (backend, case) = (self.backend, format!("{len}"));
        let label = CaseLabel { operation: "replay", case: &case };
        let x = self.normal(len);
        let (mut from, mut to) =
            (backend.alloc(len).expect("a buffer"), backend.alloc(len).expect("a buffer"));
        backend.upload(backend.view_mut(&mut from, 0..len), &Self::to_scalars(&x)).expect("upload");
        let mut graph = B::Graph::default();
        for round in 1..=8u64 {
            let work = backend.replay(&mut graph, [round / 5, 0], &mut || {
                backend.axpy(
                    backend.view_mut(&mut to, 0..len),
                    B::Scalar::from_f64(1.0),
                    backend.view(&from, 0..len),
                )
            });
            work.expect("a replay");
            let want: Vec<f64> = x.iter().map(|x| round as f64 * x).collect();
            self.check_output(label, "work", &self.download(&to), &want);
        }
    }

    fn finite_case(&mut self, len: usize) {
        let case = format!("{len}");
        let label = CaseLabel { operation: "all_finite", case: &case };
        let mut x = Self::to_scalars(&self.normal(len));
        let mut is_correct = self.backend.all_finite(&x);
        for i in [0, len / 2, len - 1] {
            for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
                let good = std::mem::replace(&mut x[i], B::Scalar::from_f64(bad));
                is_correct &= !self.backend.all_finite(&x);
                x[i] = good;
            }
        }
        self.check_holds(label, "answer", is_correct);
    }

    /// The integers of a buffer as an operation reads them: an embedding by a table whose row i holds the number i.
    fn integers_seen(&mut self, ints: &B::Ints, len: usize) -> Vec<f64> {
        let (backend, vocabulary) = (self.backend, 2048);
        let rows: Vec<f64> = (0..vocabulary).map(|row| row as f64).collect();
        let (mut table, mut y) =
            (backend.alloc(vocabulary).expect("a buffer"), backend.alloc(len).expect("a buffer"));
        backend
            .upload(backend.view_mut(&mut table, 0..vocabulary), &Self::to_scalars(&rows))
            .expect("upload");
        backend
            .embedding_forward(EmbeddingForward {
                y: backend.view_mut(&mut y, 0..len),
                table: backend.view(&table, 0..vocabulary),
                tokens: ints,
                vocabulary,
                shape: SeqShape { batch: 1, heads: 1, len },
            })
            .expect("rows of a table");
        self.download(&y)
    }

    fn integer_case(&mut self, len: usize) {
        let (backend, case) = (self.backend, format!("{len}"));
        let label = |operation| CaseLabel { operation, case: &case };
        let mut ints = backend.alloc_ints(len).expect("integers");
        let got = self.integers_seen(&ints, len);
        self.check_exact(label("alloc_ints"), "buffer", &got, &vec![0.0; len]);
        let values: Vec<i32> = (0..len).map(|i| (i * 7 % 1024) as i32).collect();
        backend.upload_ints(&mut ints, &values).expect("upload of integers");
        let want: Vec<f64> = values.iter().map(|&x| f64::from(x)).collect();
        let got = self.integers_seen(&ints, len);
        self.check_exact(label("upload_ints"), "dst", &got, &want);
        let (count, seen) = (backend.ints_len(&ints), backend.host_ints(&ints));
        self.check_holds(label("ints_len"), "answer", count >= len);
        self.check_holds(label("host_ints"), "answer", seen.is_none_or(|seen| seen[..len] == values[..]));
        let longer = vec![0; count + 1];
        self.check_holds(
            label("upload_ints"),
            "refusal of more",
            backend.upload_ints(&mut ints, &longer).is_err(),
        );
    }

    fn view_cases(&mut self) {
        let (backend, x) = (self.backend, self.normal(130));
        let label = |operation| CaseLabel { operation, case: "130" };
        let mut buf = backend.alloc(130).expect("a buffer");
        backend.upload(backend.view_mut(&mut buf, 0..130), &Self::to_scalars(&x)).expect("upload");
        self.check_holds(label("len"), "answer", backend.len(&buf) == 130);
        let view = backend.view(&buf, 7..72);
        self.check_holds(label("ref_len"), "answer", backend.ref_len(view) == 65);
        self.check_exact(label("view"), "view", &self.read(view), &x[7..72]);
        self.check_exact(label("sub"), "view", &self.read(backend.sub(view, 1..64)), &x[8..71]);
        self.check_exact(label("shorten"), "view", &self.read(backend.shorten(view)), &x[7..72]);
        let mut whole = backend.view_mut(&mut buf, 1..130);
        self.check_holds(label("mut_len"), "answer", backend.mut_len(&whole) == 129);
        self.check_exact(label("freeze"), "view", &self.read(backend.freeze(&whole)), &x[1..130]);
        backend.fill(backend.reborrow(&mut whole), B::Scalar::from_f64(2.0)).expect("fill");
        let (left, right) = backend.split_mut(whole, 64);
        self.check_holds(
            label("split_mut"),
            "lengths",
            (backend.mut_len(&left), backend.mut_len(&right)) == (64, 65),
        );
        backend.fill(right, B::Scalar::from_f64(4.0)).expect("fill");
        backend.fill(left, B::Scalar::from_f64(3.0)).expect("fill");
        let want = [vec![x[0]], vec![3.0; 64], vec![4.0; 65]].concat();
        self.check_exact(label("split_mut"), "views", &self.download(&buf), &want);
    }
}
