// compression_mode.hpp - what an operator can ask of the compression of pages (engine.compression).
#pragma once

namespace lifeboat {

enum class CompressionMode { kAuto, kOff, kLz4, kZstd };

}  // namespace lifeboat
