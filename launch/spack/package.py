# Recipe for Spack: put this folder's package.py into packages/plumb of a repository of your own,
#     spack repo create ~/plumb-repo && mkdir ~/plumb-repo/packages/plumb
#     cp launch/spack/package.py ~/plumb-repo/packages/plumb/ && spack repo add ~/plumb-repo
#     spack install --test=root plumb +cuda cuda_arch=90
from spack.package import *


class Plumb(MesonPackage, CudaPackage):
    """Distributed alignment of language models from one C program: MPI, CUDA, HDF5."""

    # address of your copy of the source; or use: spack develop --path DIR plumb@main
    git = "https://localhost/plumb.git"
    license("MIT")

    version("main", branch="main")

    variant("mpi", default=True, description="several ranks over MPI")
    variant("nccl", default=True, when="+cuda", description="ranks exchange device memory over NCCL")

    depends_on("c", type="build")
    depends_on("cxx", type="build", when="+cuda")
    depends_on("meson@1.0:", type="build")
    depends_on("ninja", type="build")
    depends_on("pkgconfig", type="build")
    depends_on("python@3.9:", type="test")
    depends_on("jansson@2.13:")
    depends_on("libfyaml@0.7:")
    depends_on("pcre2")
    depends_on("utf8proc")
    depends_on("xxhash")
    depends_on("zlib-api")
    depends_on("hwloc@2:")
    depends_on("hdf5")
    depends_on("hdf5~mpi", when="~mpi")
    depends_on("mpi", when="+mpi")
    depends_on("cuda@12:", when="+cuda")
    depends_on("nccl", when="+nccl")
    conflicts("cuda_arch=none", when="+cuda", msg="+cuda needs cuda_arch, for example cuda_arch=90")

    def meson_args(self):
        spec = self.spec

        def feature(name, on):
            return f"-D{name}={'enabled' if on else 'disabled'}"

        args = [feature("mpi", "+mpi" in spec), feature("cuda", "+cuda" in spec),
                feature("nccl", "+nccl" in spec), "-Demulator=disabled"]
        if "+cuda" in spec:
            args.append("-Dgpu=" + ",".join(spec.variants["cuda_arch"].value))
        if "+mpi" in spec and any(name in spec for name in ("mpich", "mvapich2", "cray-mpich")):
            args.append("-Dmpi_package=mpich")
        return args

    def check(self):
        with working_dir(self.build_directory):
            suites = [word for suite in ("base", "config", "io", "align", "text") for word in ("--suite", suite)]
            Executable("meson")("test", "--no-rebuild", *suites)

    def test_doctor(self):
        """the installed program finds its libraries and computes"""
        plumb = which(self.prefix.bin.plumb)
        out = plumb("doctor", "threads=1", output=str.split, error=str.split)
        assert "all ranks answered and computed" in out
