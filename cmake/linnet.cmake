# What every target of ours shares: the standard, the warnings, the sanitizers, ccache.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
find_package(Threads REQUIRED)

find_program(CCACHE ccache)
if(CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # Precompiled headers and other folders' builds share the cache.
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env
      CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime
      CCACHE_NOHASHDIR=1 CCACHE_BASEDIR=${CMAKE_SOURCE_DIR} ${CCACHE})
endif()

# Warnings as errors for our code only; libraries' headers come in as SYSTEM.
add_library(linnet_flags INTERFACE)
option(LINNET_WERROR "Warnings are errors (compilers we do not test with may warn of more)" ON)
target_compile_options(linnet_flags INTERFACE -Wall -Wextra -Wno-missing-field-initializers)
if(LINNET_WERROR)
  target_compile_options(linnet_flags INTERFACE -Werror)
endif()
target_compile_options(linnet_flags INTERFACE $<$<CXX_COMPILER_ID:GNU>:-Wno-psabi>)
# A build from nothing reads every header once a translation unit: several files in one take a third of the time.
if(CMAKE_UNITY_BUILD)
  # Whose anonymous namespace it is, the compiler cannot tell any more.
  target_compile_options(linnet_flags INTERFACE $<$<CXX_COMPILER_ID:GNU>:-Wno-subobject-linkage>)
endif()
if(LINNET_SANITIZE)
  target_compile_options(linnet_flags INTERFACE -fsanitize=${LINNET_SANITIZE} -fno-omit-frame-pointer
                         -fno-sanitize-recover=all)
  # g++ misaligns vectors of 64 bytes on a stack that can be told after return (GCC bug 110027).
  target_compile_options(linnet_flags INTERFACE $<$<CXX_COMPILER_ID:GNU>:--param=asan-use-after-return=0>)
  target_link_options(linnet_flags INTERFACE -fsanitize=${LINNET_SANITIZE})
endif()
if(LINNET_FUZZ)
  target_compile_options(linnet_flags INTERFACE -fsanitize=fuzzer-no-link)  # coverage for libFuzzer
endif()

# linnet_library(NAME SOURCES … [DEPENDS folder …] [LIBRARIES external …] [PRIVATE_LIBRARIES external …])
# One library a folder, `linnet_NAME`. DEPENDS names the only folders it may include.
function(linnet_library name)
  cmake_parse_arguments(A "" "" "SOURCES;DEPENDS;LIBRARIES;PRIVATE_LIBRARIES" ${ARGN})
  list(TRANSFORM A_DEPENDS PREPEND linnet_)
  if(NOT A_SOURCES)
    file(WRITE ${CMAKE_CURRENT_BINARY_DIR}/empty.cpp "")
    set(A_SOURCES ${CMAKE_CURRENT_BINARY_DIR}/empty.cpp)
  endif()
  add_library(linnet_${name} STATIC ${A_SOURCES})
  target_include_directories(linnet_${name} PUBLIC ${CMAKE_SOURCE_DIR}/src)
  target_link_libraries(linnet_${name} PUBLIC ${A_DEPENDS} ${A_LIBRARIES} PRIVATE linnet_flags ${A_PRIVATE_LIBRARIES})
endfunction()

# linnet_test(NAME SOURCES … LINK folder … [LABELS …]): one ctest entry a test case.
function(linnet_test name)
  cmake_parse_arguments(A "" "" "SOURCES;LINK;LIBRARIES;LABELS" ${ARGN})
  add_executable(test_${name} ${A_SOURCES})
  set_target_properties(test_${name} PROPERTIES UNITY_BUILD OFF)
  target_include_directories(test_${name} PRIVATE ${CMAKE_SOURCE_DIR}/src ${CMAKE_SOURCE_DIR})
  list(TRANSFORM A_LINK PREPEND linnet_)
  target_link_libraries(test_${name} PRIVATE ${A_LINK} ${A_LIBRARIES} linnet_flags GTest::gtest GTest::gmock GTest::gtest_main)
  target_compile_definitions(test_${name} PRIVATE
    LINNET_TEST_DATA="${CMAKE_SOURCE_DIR}/tests/data" LINNET_SHARED="${CMAKE_SOURCE_DIR}/../shared"
    LINNET_MODELS="${CMAKE_SOURCE_DIR}/models" LINNET_BIN="${CMAKE_BINARY_DIR}/bin")
  gtest_discover_tests(test_${name} PROPERTIES LABELS "${A_LABELS}" DISCOVERY_TIMEOUT 60 DISCOVERY_MODE PRE_TEST)
endfunction()
