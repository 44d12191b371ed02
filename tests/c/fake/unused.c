/* Functions of CPython's that the rooms under test name, and that no test comes to.
 * This file includes no header, so that their arguments do not matter. */
_Noreturn void fake_fatal(const char *why);

#define UNUSED(name)                                  \
    void name(void);                                  \
    void name(void)                                   \
    {                                                 \
        fake_fatal(#name " is not part of the fake"); \
    }

UNUSED(PyArg_ParseTupleAndKeywords)
UNUSED(PyBytes_AsStringAndSize)
UNUSED(PyDict_Clear)
UNUSED(PyDict_Update)
UNUSED(PyErr_DisplayException)
UNUSED(PyErr_FormatUnraisable)
UNUSED(PyErr_WarnFormat)
UNUSED(PyEval_EvalCode)
UNUSED(PyFloat_AsDouble)
UNUSED(PyFunction_GetCode)
UNUSED(PyFunction_GetModule)
UNUSED(PyGC_Collect)
UNUSED(PyMarshal_ReadObjectFromString)
UNUSED(PyModule_GetDict)
UNUSED(PyObject_GetOptionalAttrString)
UNUSED(PyUnicode_AsEncodedString)
UNUSED(PyUnicode_AsUTF8AndSize)
UNUSED(PyUnicode_EqualToUTF8)
UNUSED(Py_CompileStringExFlags)
UNUSED(_Py_FatalErrorFunc)
UNUSED(PyCallable_Check)
UNUSED(PyException_GetTraceback)
UNUSED(PyException_SetTraceback)
UNUSED(PyFrame_GetCode)
UNUSED(PyLong_AsLong)
UNUSED(PyObject_CallObject)
UNUSED(PyThreadState_GetFrame)
UNUSED(PyGILState_Ensure)
UNUSED(PyGILState_Release)
UNUSED(PyThreadState_Swap)
UNUSED(PyIndex_Check)
UNUSED(PyLong_AsLongLong)
UNUSED(PyMemoryView_FromObject)
UNUSED(PyObject_CheckBuffer)
